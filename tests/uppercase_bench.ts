// SPDX-License-Identifier: 0BSD

/**
 * UppercaseStream beside decode(), toUpperCase() and encode(), in one process.
 *
 *     deno bench
 *
 * A chunk has 250,000 bytes: a quarter of "iter/s" is megabytes a second.
 *
 * @module
 */

import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { UppercaseStream } from "../server.ts";

/** The same as UppercaseStream in the three steps that come to mind. */
class PlainStream extends TransformStream<Uint8Array, Uint8Array> {
  constructor() {
    const decoder = new TextDecoder();
    const encoder = new TextEncoder();
    super({
      transform(chunk, controller) {
        const text = decoder.decode(chunk, { stream: true });
        controller.enqueue(encoder.encode(text.toUpperCase()));
      },
    });
  }
}

for (const name of Object.keys(SENTENCES)) {
  const text = new TextEncoder().encode(lines(name, 250_000));
  for (const Stream of [PlainStream, UppercaseStream]) {
    const { readable, writable } = new Stream();
    const writer = writable.getWriter();
    // Takes every reply, in however many pieces it comes, and looks at none.
    readable.pipeTo(new WritableStream());
    // The stream may write the reply over the chunk, or keep a part of the chunk
    // until the next one comes. So two chunks take turns, as in the server, and
    // each is filled again before it is sent.
    let [chunk, other] = [text.slice(), text.slice()];
    Deno.bench(
      `${name}: ${Stream.name}`,
      { group: name, baseline: Stream === PlainStream },
      async () => {
        [chunk, other] = [other, chunk];
        chunk.set(text);
        await writer.write(chunk);
      },
    );
  }
}
