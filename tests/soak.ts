// SPDX-License-Identifier: 0BSD

/**
 * Minutes of clients of every kind at once against one `server.ts`: right ones
 * that check every byte of the reply, slow ones, silent ones, and clients that
 * reset or send bytes that are no text.
 *
 *     deno task soak --minutes 30
 *
 * It ends at the first fault, with exit code 1: a byte of a reply that is wrong or
 * missing, an error of a client that is not its own, an error in the server's log,
 * a descriptor that the server keeps, or too much memory.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { help, readOptions } from "../lib/parts/command_line.ts";
import { type Address, readReply, reset, writeAll } from "../lib/parts/tcp.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { within } from "../lib/parts/waits.ts";
import { number } from "../lib/parts/words.ts";
import { freePort, memory } from "./machine.ts";
import { SERVER } from "./pair.ts";
import { progress } from "./progress.ts";
import { readAll } from "./sockets.ts";

/**
 * Megabytes that the server may hold when all clients have gone: one and a half
 * times as many as it does, however long the run. The system's allocator keeps
 * memory for the next clients.
 */
const MOST_MEMORY = 240;

/** Bytes of replies that were compared. */
let verified = 0;

// -------------------------------------------------------------------- options

const USAGE = `Runs clients of every kind at once against one server.ts.

Usage: deno task soak [options]

  --minutes N   how long, such as 0.5 (default 4)
  -h, --help    show this

It ends at the first fault, with exit code 1.`;

/** Reads the options, or ends the process after help. */
function parse() {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "4" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) help(USAGE);
  const isNumber = /^[0-9]+(\.[0-9]+)?$/.test(values.minutes);
  const minutes = isNumber ? Number(values.minutes) : 0;
  if (minutes > 0) return { minutes };
  const given = JSON.stringify(values.minutes);
  throw new Error(`--minutes must be a number above 0, not ${given}`);
}

const { minutes } = readOptions("soak", parse);

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
 * How many clients of a kind there are at any time, and what each does from its
 * connection to its end. An error that it throws is a fault.
 */
type Kind = [atOnce: number, run: (address: Address) => Promise<unknown>];

const KINDS: Record<string, Kind> = {
  "send and read at the same time": [12, (address) => sendAndRead(address)],
  "read slowly": [4, (address) => sendAndRead(address, true)],
  "talk, line by line": [20, async (address) => {
    using socket = await Deno.connect(address);
    for (let line = some(200); line >= 0; line--) {
      const { text, reply } = someLines(1);
      await writeAll(socket, text);
      await receive(socket, reply);
    }
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
};

/** Sends many lines, ends that side, and compares the whole reply. */
async function sendAndRead(address: Address, slowly = false): Promise<void> {
  using socket = await Deno.connect(address);
  const { text, reply } = someLines(5000);
  const send = async () => {
    for (let at = 0; at < text.length;) { // in pieces, wherever that cuts it
      const piece = text.subarray(at, at + 1 + some(200_000));
      await writeAll(socket, piece);
      at += piece.length;
    }
    await socket.closeWrite();
  };
  await Promise.all([send(), receive(socket, reply, slowly)]);
  const more = await socket.read(new Uint8Array(1));
  assert.equal(more, null, "more bytes than the reply has");
}

/** Reads a whole reply and compares every byte. */
function receive(
  socket: Deno.TcpConn,
  reply: Uint8Array,
  slowly = false,
): Promise<void> {
  return readReply(socket, reply, new Uint8Array(64 * 1024), (count) => {
    verified += count;
    if (slowly) return pause(some(20));
  });
}

// --------------------------------------------------------------------- server

/** Lines that the log may have, as there are clients who never read, and so on. */
const EXPECTED =
  / connected, | closed, .* s(: (idle for|Connection reset|Broken pipe).*)?$| lines lost$/;

const address = { hostname: "127.0.0.1", port: freePort() };
// No Script, which would keep half an hour of its log in memory.
await using server = new Deno.Command(Deno.execPath(), {
  args: [
    ...["run", "--allow-net", SERVER, "--port", `${address.port}`],
    ...["--idle-timeout", "5"], // silent clients leave while we watch
  ],
  stdout: "piped",
}).spawn();
const log = createInterface({ input: Readable.fromWeb(server.stdout) });
await once(log, "line"); // it listens
const failed = Promise.withResolvers<never>();
log.on("line", (line) => {
  if (!EXPECTED.test(line)) failed.reject(new Error(`the log: ${line}`));
});
log.on("close", () => failed.reject(new Error("the server died")));

const descriptors = () =>
  [...Deno.readDirSync(`/proc/${server.pid}/fd`)].length;
const descriptorsBefore = descriptors();

// -------------------------------------------------------------------- program

const end = performance.now() + 60_000 * minutes;
const rows = new Map(Object.keys(KINDS).map((name) => [name, 0]));
const clients = Object.entries(KINDS).flatMap(([name, [atOnce, run]]) => {
  const again = async () => {
    while (performance.now() < end) {
      await run(address).catch((cause) => {
        throw new Error(`a client was to ${name}`, { cause });
      });
      rows.set(name, rows.get(name)! + 1);
    }
  };
  return Array.from({ length: atOnce }, again);
});
const allGone = Promise.all(clients).then(async () => {
  while (descriptors() > descriptorsBefore) await pause(50);
  return true;
});

const clock = setInterval(() => {
  const left = Math.max(0, end - performance.now()) / 60_000;
  const compared = number(Math.floor(verified / 1e6));
  progress(
    `${clients.length} clients at once; ${compared} MB compared; ` +
      `${left.toFixed(1)} of ${minutes} minutes left`,
  );
}, 1000);
const over = Promise.race([allGone, failed.promise]);
const isInTime = await within(60 * (minutes + 1), over);
clearInterval(clock);
progress("");
assert.ok(isInTime, "a minute later the server still has clients");
const megabytes = Math.round(memory(server.pid, "VmRSS") / 1e6);
assert.ok(megabytes <= MOST_MEMORY, `the server holds ${megabytes} MB`);
server.kill();
assert.equal((await server.status).code, 0, "the server's exit code");

rows.set("bytes verified", verified);
rows.set("memory after: MB", megabytes);
console.log(`| clients, in ${minutes} minutes | |\n| --- | ---: |`);
for (const [what, count] of rows) {
  console.log(`| ${what} | ${number(count)} |`);
}
