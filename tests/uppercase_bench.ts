// SPDX-License-Identifier: 0BSD

/**
 * UppercaseStream beside decode(), toUpperCase() and encode(), in one process.
 *
 *     deno bench tests/
 *
 * @module
 */

import { lines, SENTENCES } from "../lib/texts.ts";
import { UppercaseStream } from "../server.ts";

/** As large as the server's reads become. */
const CHUNK = 256 * 1024;

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
  const text = new TextEncoder().encode(lines(name, CHUNK)).subarray(0, CHUNK);
  for (const Stream of [PlainStream, UppercaseStream]) {
    const { readable, writable } = new Stream();
    const reader = readable.getReader();
    const writer = writable.getWriter();
    Deno.bench(
      `${name}: ${Stream.name}`,
      { group: name, baseline: Stream === PlainStream },
      async () => {
        // A copy each time, for both: a chunk belongs to the stream it is
        // written to. A chunk ends within a character, as those of TCP do.
        const written = writer.write(text.slice());
        await reader.read();
        await written;
      },
    );
  }
}
