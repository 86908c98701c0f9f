// SPDX-License-Identifier: 0BSD

/** The text's stream by itself: exact for all of Unicode, at every cut. */

import assert from "node:assert/strict";
import { Buffer, isUtf8 } from "node:buffer";
import { pathToFileURL } from "node:url";
import { SERVER } from "./pair.ts";

// From the copy, if take_away_test.ts has one.
const { UppercaseStream }: typeof import("../server.ts") = await import(
  pathToFileURL(SERVER).href
);

const encoder = new TextEncoder();

/**
 * The whole reply to bytes, in chunks of sizes that `size` gives. Each chunk is a
 * copy, as it belongs to the stream, and begins at an odd place in memory.
 */
async function replyTo(
  bytes: Uint8Array,
  size: () => number,
): Promise<Uint8Array> {
  const stream = new UppercaseStream();
  const reply = new Response(stream.readable).bytes();
  const writer = stream.writable.getWriter();
  for (let at = 0; at < bytes.length;) {
    const chunk = bytes.subarray(at, at + size());
    const copy = new Uint8Array(1 + chunk.length).subarray(1);
    copy.set(chunk);
    await writer.write(copy);
    at += chunk.length;
  }
  await writer.close();
  return await reply;
}

/** Numbers that look random, and are the same in every run (Lehmer's generator). */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = 48271 * seed % 0x7fffffff;
    return seed % below;
  };
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
  const points = Array.from({ length: 0x110000 }, (_, point) => point)
    .filter((point) => point < 0xd800 || point > 0xdfff);
  for (const [before, most] of PLACES) {
    const text = points.map((point) => before + String.fromCodePoint(point));
    const below = random(most);
    await expectReply(text.join(""), () => 1 + below(most));
  }
  // The reply that is longest for its character, in one chunk.
  await expectReply("ΐ".repeat(3_000_000), () => Infinity);
});

/** Compares the reply to a text, in chunks of sizes that `size` gives. */
async function expectReply(text: string, size: () => number): Promise<void> {
  const reply = await replyTo(encoder.encode(text), size);
  const expected = encoder.encode(text.toUpperCase());
  // Not equal(), whose message would show megabytes.
  const at = expected.findIndex((byte, at) => byte !== reply[at]);
  assert.equal(at, -1, `the reply is another from byte ${at} on`);
  assert.equal(reply.length, expected.length, "the reply is too long");
}

Deno.test("uppercase - every cut of a hard text", async () => {
  const bytes = encoder.encode(HARD);
  const expected = encoder.encode(HARD.toUpperCase());
  const slowly = await replyTo(bytes, () => 1);
  assert.deepEqual(slowly, expected, "a byte at a time");
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) {
      const sizes = [first, second - first, Infinity];
      const reply = await replyTo(bytes, () => sizes.shift()!);
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
  const real = encoder.encode(HARD);
  for (const first of BORDERS) {
    for (const second of BORDERS) {
      for (const third of BORDERS) {
        // With any byte behind them, bytes of real characters, and again at the end.
        const start = below(real.length);
        const some = real.subarray(start, start + 8);
        const row = [first, second, third];
        const bytes = Uint8Array.of(...row, below(256), ...some, ...row);
        const reply = await replyTo(bytes, () => 1 + below(7));
        assert.deepEqual(reply, plainly(bytes), `bytes ${bytes}`);
      }
    }
  }
});

/** One character at a time, each by toUpperCase(); other bytes as they are. */
function plainly(bytes: Uint8Array): Uint8Array {
  const reply: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const sizes = [1, 2, 3, 4];
    const size = sizes.find((size) => isUtf8(bytes.subarray(at, at + size)));
    const character = Buffer.from(bytes.subarray(at, at + (size ?? 1)));
    const upper = Buffer.from(character.toString().toUpperCase());
    reply.push(...(size === undefined ? character : upper));
    at += character.length;
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
