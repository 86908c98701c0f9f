// SPDX-License-Identifier: 0BSD

/**
 * UppercaseStream beside decode(), toUpperCase() and encode(), in one process.
 *
 *     deno bench --allow-read tests/uppercase_bench.ts
 *
 * @module
 */

import { lines, SENTENCES } from "../lib/parts/texts.ts";
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
  const chunk = new Uint8Array(text.length);
  for (const Stream of [PlainStream, UppercaseStream]) {
    const { readable, writable } = new Stream();
    const reader = readable.getReader();
    const writer = writable.getWriter();
    Deno.bench(
      `${name}: ${Stream.name}`,
      { group: name, baseline: Stream === PlainStream },
      async () => {
        // Copied each time, for both, as the reply may be written over it; in
        // the same memory, as the server does. It ends within a character, as
        // chunks of TCP do.
        chunk.set(text);
        const written = writer.write(chunk);
        await reader.read();
        await written;
      },
    );
  }
}
