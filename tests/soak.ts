// SPDX-License-Identifier: 0BSD

/**
 * Minutes of clients of every kind at once against one `server.ts`: right ones
 * that check every byte of the reply, slow ones, silent ones, and clients that
 * reset, flood or send bytes that are no text.
 *
 *     deno task soak --minutes 30
 *
 * Exit code 1 if a byte of a reply was wrong or missing, if the server has not
 * given back every descriptor, or, in a run of at least four minutes, if its
 * memory has grown since the first quarter.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import {
  type Address,
  readAll,
  reset,
  within,
  writeAll,
} from "../lib/parts/tcp.ts";
import { fail } from "../lib/parts/terminal.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { memory } from "./machine.ts";
import { startServer } from "./pair.ts";

/**
 * How much more memory than in the first quarter there may be at the end: the
 * system's allocator keeps for the next clients what the server has once used.
 */
const GROWTH = 1.5;
/** A shorter run shows no growth: in its first minute a server takes what it needs. */
const LEAST_MINUTES = 4;

/** Bytes of replies that were compared. */
let verified = 0;
/** Replies that were wrong or not whole. */
let wrong = 0;

// ---------------------------------------------------------------------- texts

/** A text, and the reply to it. */
interface Exchange {
  text: Uint8Array;
  reply: Uint8Array;
}

/** Bytes that are no UTF-8 between words, each with a space after it. */
const NO_TEXT: Exchange[] = Array.from({ length: 3000 }, () => {
  const hex = any(["ff", "c3", "e282", "f09f98", "80bf", "c0af", "00"]);
  const bytes = Buffer.from(`${hex}20`, "hex");
  return {
    text: Buffer.concat([Buffer.from("perché ß"), bytes]),
    reply: Buffer.concat([Buffer.from("PERCHÉ SS"), bytes]),
  };
});

/** Many lines of each kind of text. */
const TEXTS: Exchange[][] = [
  NO_TEXT,
  ...Object.keys(SENTENCES).map((name) =>
    lines(name, 1_000_000).split(/(?<=\n)/).map((line) => ({
      text: Buffer.from(line),
      reply: Buffer.from(line.toUpperCase()),
    }))
  ),
];

function any<T>(choices: T[]): T {
  return choices[Math.floor(choices.length * Math.random())];
}

/** A whole number from 0 to below `end`, small ones more often. */
function some(end: number): number {
  return Math.floor(end * Math.random() ** 3);
}

/** Up to so many lines in a row, of one of the texts. */
function someLines(most: number): Exchange {
  const all = any(TEXTS);
  const start = some(all.length);
  const picked = all.slice(start, start + 1 + some(most));
  return {
    text: Buffer.concat(picked.map(({ text }) => text)),
    reply: Buffer.concat(picked.map(({ reply }) => reply)),
  };
}

// -------------------------------------------------------------------- clients

/** Clients that do the same, again and again. */
interface Kind {
  name: string;
  /** How many of them there are at any time. */
  atOnce: number;
  /** What one does, from its connection to its end. */
  run: (address: Address) => Promise<unknown>;
  /** An error that one meets with is the server's fault, and not its own. */
  isRight?: boolean;
}

const KINDS: Kind[] = [
  {
    name: "send and read at the same time",
    isRight: true,
    atOnce: 8,
    run: (address) => sendAndRead(address, someLines(5000)),
  },
  {
    name: "read slowly",
    isRight: true,
    atOnce: 4,
    run: (address) =>
      sendAndRead(address, someLines(5000), () => pause(some(20))),
  },
  {
    name: "talk, line by line",
    isRight: true,
    atOnce: 20,
    async run(address) {
      using socket = await Deno.connect(address);
      for (let line = some(200); line >= 0; line--) {
        const { text, reply } = someLines(1);
        await writeAll(socket, text);
        await expectBytes(socket, reply);
      }
    },
  },
  {
    name: "send all, close that side, then read",
    isRight: true,
    atOnce: 4,
    // So few lines that the sockets hold them while nobody reads.
    run: (address) => sendAndRead(address, someLines(300), (sent) => sent),
  },
  {
    name: "say nothing",
    atOnce: 20,
    async run(address) {
      using socket = await Deno.connect(address);
      await readAll(socket); // until the idle timeout
    },
  },
  {
    name: "never read",
    atOnce: 2,
    async run(address) {
      using socket = await Deno.connect(address);
      const { text } = someLines(5000);
      while (true) await writeAll(socket, text); // until the server closes
    },
  },
  { name: "reset at once", atOnce: 1, run: (address) => reset(address) },
  {
    name: "reset in a transfer",
    atOnce: 2,
    run: (address) =>
      reset(address, async (send, reply) => {
        send(someLines(5000).text);
        await reply;
      }),
  },
  {
    name: "flood: 50 connections at once",
    atOnce: 1,
    async run(address) {
      const sockets = await Promise.all(
        Array.from({ length: 50 }, () => Deno.connect(address)),
      );
      sockets.forEach((socket) => socket.close());
      await pause(200);
    },
  },
];

/** Sends a text, ends that side, and compares the whole reply. */
async function sendAndRead(
  address: Address,
  { text, reply }: Exchange,
  beforeRead?: (sent: Promise<void>) => Promise<void>,
): Promise<void> {
  using socket = await Deno.connect(address);
  const sent = send(socket, text).then(() => socket.closeWrite());
  const expected = expectBytes(socket, reply, () => beforeRead?.(sent));
  await Promise.all([sent, expected]);
  const more = await socket.read(new Uint8Array(1));
  if (more !== null) throw new Error("more bytes than the reply has");
}

/** Sends a text in pieces of any size, wherever that cuts it. */
async function send(socket: Deno.TcpConn, text: Uint8Array): Promise<void> {
  for (let at = 0; at < text.length;) {
    const piece = text.subarray(at, at + 1 + some(200_000));
    await writeAll(socket, piece);
    at += piece.length;
  }
}

/** Reads until the reply is there and compares every byte. */
async function expectBytes(
  socket: Deno.TcpConn,
  reply: Uint8Array,
  beforeRead?: () => Promise<void> | undefined,
): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (let at = 0; at < reply.length;) {
    await beforeRead?.();
    const count = await socket.read(buffer);
    if (count === null) throw new Error(`${at} of ${reply.length} bytes came`);
    const came = buffer.subarray(0, count);
    if (Buffer.compare(came, reply.subarray(at, at + count)) !== 0) {
      throw new Error(`wrong bytes from byte ${at} on`);
    }
    at += count;
    verified += count;
  }
}

// -------------------------------------------------------------------- program

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "4" } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  fail("soak", `--minutes must be a number, not "${values.minutes}"`, 2);
}

// Silent clients leave while we watch. A long run's whole log would fill the
// memory of this program; what went wrong may.
await using server = await startServer(["--idle-timeout", "5"]);
const { script: { pid }, address } = server;
const descriptors = () => [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
const descriptorsBefore = descriptors();
let quarter = 0;
setTimeout(() => quarter = memory(pid, "VmHWM"), 60_000 * minutes / 4);

const end = performance.now() + 60_000 * minutes;
const sessions = new Map(KINDS.map(({ name }) => [name, 0]));

async function again({ name, run, isRight }: Kind): Promise<void> {
  while (performance.now() < end) {
    await run(address).catch((error) => {
      if (!isRight) return;
      wrong += 1;
      console.error(`soak: ${name}: ${error}`);
    });
    sessions.set(name, sessions.get(name)! + 1);
  }
}

const everybody = KINDS.flatMap((kind) => Array(kind.atOnce).fill(kind));
const allGone = Promise.all(everybody.map(again)).then(async () => {
  while (descriptors() > descriptorsBefore) await pause(50);
  return true;
});

const inTime = await within(60 * (minutes + 1), allGone);
const descriptorsAfter = descriptors();
const after = memory(pid, "VmRSS");
server.script.kill();
const { code, stderr } = await server.script.ending();

const rows: [string, number][] = [
  ...sessions,
  ["bytes verified", verified],
  ["replies with wrong or missing bytes", wrong],
  ["descriptors before", descriptorsBefore],
  ["descriptors after", descriptorsAfter],
  ["memory, at most, in the first quarter: MB", quarter / 1e6],
  ["memory after: MB", after / 1e6],
];
console.log(`| clients, in ${minutes} minutes | |\n| --- | ---: |`);
for (const [what, count] of rows) {
  console.log(`| ${what} | ${Math.round(count).toLocaleString("en")} |`);
}

const failures = [
  !inTime && "a minute after the end there are still clients or descriptors",
  wrong > 0 && "replies had wrong or missing bytes",
  code !== 0 && `the server ended with exit code ${code}: ${stderr}`,
  minutes >= LEAST_MINUTES && after > GROWTH * quarter &&
  "memory grew after the first quarter",
].filter((failure) => failure !== false);
for (const failure of failures) console.error(`soak: ${failure}`);
Deno.exit(failures.length > 0 ? 1 : 0);
