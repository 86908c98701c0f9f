// SPDX-License-Identifier: 0BSD

/** The text's stream by itself: exact for all of Unicode, at every cut. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { pathToFileURL } from "node:url";
import { SERVER } from "./pair.ts";

// From the copy, if take_away_test.ts has one.
const { UppercaseStream }: typeof import("../server.ts") = await import(
  pathToFileURL(SERVER).href
);

const encoder = new TextEncoder();

/**
 * The whole reply to chunks, each a copy, as a chunk belongs to the stream. The
 * copies begin at an odd place in memory.
 */
async function replyTo(chunks: Uint8Array[]): Promise<Uint8Array> {
  const stream = new UppercaseStream();
  const reply = new Response(stream.readable).bytes();
  const writer = stream.writable.getWriter();
  for (const chunk of chunks) {
    const copy = new Uint8Array(1 + chunk.length).subarray(1);
    copy.set(chunk);
    await writer.write(copy);
  }
  await writer.close();
  return await reply;
}

/** Cuts bytes into chunks of sizes that `size` gives. */
function cut(bytes: Uint8Array, size: () => number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + size());
    chunks.push(bytes.subarray(at, end));
    at = end;
  }
  return chunks;
}

/** Numbers that look random, and are the same in every run (xorshift32). */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % below;
  };
}

/** Every code point that UTF-8 can write, in order. */
function allOfUnicode(): string[] {
  return Array.from({ length: 0x110000 }, (_, point) => point)
    .filter((point) => point < 0xd800 || point > 0xdfff)
    .map((point) => String.fromCodePoint(point));
}

/** Letters whose uppercase has another length, and characters of all lengths. */
const HARD = "\u{feff}aßıﬁŉΐǰև ᾷა😀𐐨zé中\u{feff}́ſK\0ẞİ\u{10ffff}b";

/**
 * What is before each character, and the longest chunk. A character's place in a
 * word of four bytes decides which path it takes. Before it are the first and the
 * last small letter, and their neighbours.
 */
const PLACES: [before: string, most: number][] = [
  ["", 40],
  ["a", 5000],
  ["z`", 50_000],
  ["z{a", 5_000_000],
];

Deno.test("uppercase - all of Unicode, at each place in a word, at random cuts", async () => {
  const points = allOfUnicode();
  for (const [before, most] of PLACES) {
    const text = points.map((character) => before + character).join("");
    const below = random(most);
    const chunks = cut(encoder.encode(text), () => 1 + below(most));
    const reply = Buffer.from(await replyTo(chunks));
    const expected = encoder.encode(text.toUpperCase());
    assert.ok(reply.equals(expected), `wrong after ${before.length} letters`);
  }
});

Deno.test("uppercase - every cut of a hard text", async () => {
  const bytes = encoder.encode(HARD);
  const expected = encoder.encode(HARD.toUpperCase());
  assert.deepEqual(await replyTo(cut(bytes, () => 1)), expected);
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) {
      const reply = await replyTo([
        bytes.subarray(0, first),
        bytes.subarray(first, second),
        bytes.subarray(second),
      ]);
      assert.deepEqual(reply, expected, `cut at ${first} and ${second}`);
    }
  }
});

/**
 * Where the rules of UTF-8 change: ASCII; later bytes, at the borders of what may
 * follow e0, ed, f0 and f4; and first bytes of all sizes, with those that no text
 * has: c1 (too long for its character) and f8.
 */
const BORDERS = Buffer.from("6180909fa0bfc1c3e0edf0f4f8", "hex");

Deno.test("uppercase - bytes that are no UTF-8 stay as they came, between characters and at the end", async () => {
  const below = random(3);
  const rows = [...BORDERS].flatMap((first) =>
    [...BORDERS].flatMap((second) =>
      [...BORDERS].map((third) => [first, second, third])
    )
  );
  const real = encoder.encode(HARD);
  for (const row of rows) {
    // With any byte behind it, bytes of real characters, and once more at the end.
    const start = below(real.length);
    const some = real.subarray(start, start + 8);
    const bytes = Uint8Array.of(...row, below(256), ...some, ...row);
    const reply = await replyTo(cut(bytes, () => 1 + below(7)));
    assert.deepEqual(reply, plainly(bytes), `bytes ${bytes}`);
  }
});

/** One character at a time, each by toUpperCase(); other bytes as they are. */
function plainly(bytes: Uint8Array): Uint8Array {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const reply: number[] = [];
  for (let at = 0; at < bytes.length;) {
    let size = 1;
    let character = bytes.subarray(at, at + 1);
    for (const longer of [1, 2, 3, 4]) {
      try {
        const text = decoder.decode(bytes.subarray(at, at + longer));
        character = encoder.encode(text.toUpperCase());
        size = longer;
        break;
      } catch {
        // Not a character of so many bytes.
      }
    }
    reply.push(...character);
    at += size;
  }
  return Uint8Array.from(reply);
}

Deno.test("uppercase - a byte is answered without the next one", async () => {
  const stream = new UppercaseStream();
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  // Only bytes that begin a character have to wait for its rest.
  const all = "61 c3a8 d0b6 e6bcab f09f9880 80 ff61 e061 f061 f09061";
  for (const sent of all.split(" ")) {
    const bytes = Uint8Array.from(Buffer.from(sent, "hex"));
    const expected = plainly(bytes);
    writer.write(bytes);
    assert.deepEqual((await reader.read()).value, expected);
  }
  await Promise.all([writer.close(), reader.read()]);
});

Deno.test("uppercase - a long text of the character whose reply is the longest", async () => {
  const size = (text: string) => encoder.encode(text).length;
  let worst = "a";
  let most = 1; // bytes of reply for a byte of text
  for (const character of allOfUnicode()) {
    const growth = size(character.toUpperCase()) / size(character);
    if (growth > most) [worst, most] = [character, growth];
  }
  const text = worst.repeat(3_000_000); // longer than any chunk before
  const reply = await replyTo([encoder.encode(text)]);
  const expected = encoder.encode(text.toUpperCase());
  assert.ok(Buffer.compare(reply, expected) === 0, "the reply has no room");
});
