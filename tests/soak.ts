// SPDX-License-Identifier: 0BSD

/**
 * Minutes of clients of every kind at once against one `server.ts`: right ones
 * that check every byte of the reply, slow ones, silent ones, and clients that
 * reset, flood or send bytes that are no text.
 *
 *     deno task soak --minutes 30
 *
 * Exit code 1 if a byte of a reply was wrong or missing, if a client met with
 * any error but its own, if the server logged one, has not given back every
 * descriptor, or still holds too much memory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Address, reset, within, writeAll } from "../lib/parts/tcp.ts";
import { fail, messageOf } from "../lib/parts/terminal.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { difference } from "../lib/parts/words.ts";
import { memory } from "./machine.ts";
import { SERVER } from "./pair.ts";
import { readAll } from "./sockets.ts";

/**
 * Megabytes that the server may hold when all clients have gone: one and a half
 * times as many as it does, however long the run. The system's allocator keeps
 * memory for the next clients.
 */
const MOST_MEMORY = 240;

/** Bytes of replies that were compared. */
let verified = 0;

// ---------------------------------------------------------------------- texts

/** Many lines of each kind of text. */
const LINES = Object.keys(SENTENCES).map((name) =>
  lines(name, 1_000_000).split(/(?<=\n)/)
);
/** Bytes that are no UTF-8, and so are their own reply; spaces between them. */
const NO_TEXT = Buffer.from("ff20c320e28220f09f982080bf20c0af200020", "hex");

/** A whole number from 0 to below `end`, small ones more often. */
function some(end: number): number {
  return Math.floor(end * Math.random() ** 3);
}

/**
 * Up to so many lines in a row, of one kind of text, with bytes that are no text
 * behind them, and the reply to all that.
 */
function someLines(most: number): { text: Uint8Array; reply: Uint8Array } {
  const all = LINES[Math.floor(LINES.length * Math.random())];
  const start = some(all.length);
  const text = all.slice(start, start + 1 + some(most)).join("");
  return {
    text: Buffer.concat([Buffer.from(text), NO_TEXT]),
    reply: Buffer.concat([Buffer.from(text.toUpperCase()), NO_TEXT]),
  };
}

// -------------------------------------------------------------------- clients

/**
 * What a client does, from its connection to its end, and how many of its kind
 * do so at any time, again and again. An error that it throws is a fault.
 */
type Kind = [atOnce: number, run: (address: Address) => Promise<unknown>];

const KINDS: Record<string, Kind> = {
  "send and read at the same time": [8, (address) => {
    return sendAndRead(address, 5000);
  }],
  "read slowly": [4, (address) => {
    return sendAndRead(address, 5000, () => pause(some(20)));
  }],
  "talk, line by line": [20, async (address) => {
    using socket = await Deno.connect(address);
    for (let line = some(200); line >= 0; line--) {
      const { text, reply } = someLines(1);
      await writeAll(socket, text);
      await expectBytes(socket, reply);
    }
  }],
  "send all, close that side, then read": [4, (address) => {
    // So few lines that the sockets hold them while nobody reads.
    return sendAndRead(address, 300, (sent) => sent);
  }],
  "say nothing": [20, async (address) => {
    using socket = await Deno.connect(address);
    const reply = await readAll(socket); // until the idle timeout
    assert.equal(reply.length, 0, "a reply to nothing");
  }],
  "never read": [2, async (address) => {
    using socket = await Deno.connect(address);
    const { text } = someLines(5000);
    const send = async () => {
      while (true) await writeAll(socket, text); // until the idle timeout
    };
    await assert.rejects(send, /reset by peer|Broken pipe/);
  }],
  "reset at once": [1, async (address) => {
    assert.ok(await reset(address), "no connection");
  }],
  "reset in a transfer": [2, async (address) => {
    const isConnected = await reset(address, async (send, reply) => {
      send(someLines(5000).text);
      await reply;
    });
    assert.ok(isConnected, "no connection");
  }],
  "flood: 50 connections at once": [1, async (address) => {
    const sockets = await Promise.all(
      Array.from({ length: 50 }, () => Deno.connect(address)),
    );
    sockets.forEach((socket) => socket.close());
    await pause(200);
  }],
};

/** Sends up to so many lines, ends that side, and compares the whole reply. */
async function sendAndRead(
  address: Address,
  most: number,
  beforeRead: (sent: Promise<void>) => unknown = () => {},
): Promise<void> {
  using socket = await Deno.connect(address);
  const { text, reply } = someLines(most);
  const send = async () => {
    for (let at = 0; at < text.length;) { // in pieces, wherever that cuts it
      const piece = text.subarray(at, at + 1 + some(200_000));
      await writeAll(socket, piece);
      at += piece.length;
    }
    await socket.closeWrite();
  };
  const sent = send();
  const expected = expectBytes(socket, reply, () => beforeRead(sent));
  await Promise.all([sent, expected]);
  const more = await socket.read(new Uint8Array(1));
  assert.equal(more, null, "more bytes than the reply has");
}

/** Reads until the reply is there and compares every byte. */
async function expectBytes(
  socket: Deno.TcpConn,
  reply: Uint8Array,
  beforeRead?: () => unknown,
): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (let at = 0; at < reply.length;) {
    await beforeRead?.();
    const count = await socket.read(buffer);
    assert.ok(count, `only ${at} of ${reply.length} bytes came`);
    const came = buffer.subarray(0, count);
    const expected = reply.subarray(at, at + count);
    if (Buffer.compare(came, expected) !== 0) {
      throw new Error(difference(came, expected, at));
    }
    at += count;
    verified += count;
  }
}

// --------------------------------------------------------------------- errors

/** How many errors each kind of client met with, the log told of, and so on. */
const errors = new Map<string, number>();

/** Counts an error, and shows the first one of its kind. */
function addError(kind: string, what: string): void {
  const before = errors.get(kind) ?? 0;
  if (before === 0) console.error(`soak: ${kind}: ${what}`);
  errors.set(kind, before + 1);
}

/** Lines that the log may have, as there are clients who never read, and so on. */
const EXPECTED =
  / connected, | closed, .* s(: (idle for|Connection reset|Broken pipe).*)?$| lines lost$/;

// -------------------------------------------------------------------- program

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "4" } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  fail("soak", `--minutes must be a number, not "${values.minutes}"`, 2);
}

// No Script, which would keep half an hour of its log in memory.
await using server = new Deno.Command(Deno.execPath(), {
  // Silent clients leave while we watch.
  args: ["run", "--allow-net", SERVER, "--port", "0", "--idle-timeout", "5"],
  stdout: "piped",
}).spawn();
let isOver = false;
server.status.then(({ code }) => {
  if (!isOver) fail("soak", `the server died, with exit code ${code}`);
});
const address = await new Promise<Address>((listens) => {
  const input = Readable.fromWeb(server.stdout);
  createInterface({ input }).on("line", (line) => {
    const [, port] = line.match(/^listening on .*:(\d+)$/) ?? [];
    if (port) listens({ hostname: "127.0.0.1", port: Number(port) });
    else if (!EXPECTED.test(line)) addError("the server's log", line);
  });
});

const descriptors = () =>
  [...Deno.readDirSync(`/proc/${server.pid}/fd`)].length;
const descriptorsBefore = descriptors();

const end = performance.now() + 60_000 * minutes;
const sessions = new Map(Object.keys(KINDS).map((name) => [name, 0]));
const clients = Object.entries(KINDS).flatMap(([name, [atOnce, run]]) => {
  const again = async () => {
    while (performance.now() < end) {
      await run(address).catch((error) => addError(name, messageOf(error)));
      sessions.set(name, sessions.get(name)! + 1);
    }
  };
  return Array.from({ length: atOnce }, again);
});
const allGone = Promise.all(clients).then(async () => {
  while (descriptors() > descriptorsBefore) await pause(50);
  return true;
});

if (!await within(60 * (minutes + 1), allGone)) {
  const kept = descriptors() - descriptorsBefore;
  addError("the end", `a minute later the server keeps ${kept} descriptors`);
}
const megabytes = Math.round(memory(server.pid, "VmRSS") / 1e6);
if (megabytes > MOST_MEMORY) {
  addError("the server's memory", `more than ${MOST_MEMORY} MB`);
}
isOver = true;
server.kill();
const { code } = await server.status;
if (code !== 0) addError("the server's end", `exit code ${code}`);

const rows = new Map([
  ...sessions,
  ["bytes verified", verified],
  ["memory after: MB", megabytes],
]);
for (const [kind, count] of errors) rows.set(`errors: ${kind}`, count);
console.log(`| clients, in ${minutes} minutes | |\n| --- | ---: |`);
for (const [what, count] of rows) {
  console.log(`| ${what} | ${count.toLocaleString("en")} |`);
}
Deno.exit(errors.size > 0 ? 1 : 0);
