// SPDX-License-Identifier: 0BSD

/**
 * Minutes of clients of every kind at once against one `server.ts`: right ones
 * that check every byte of the reply, slow ones, silent ones, and clients that
 * reset, flood, send bytes that are no text or die in the middle.
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
import { type Address, readAll, reset, writeAll } from "../lib/parts/tcp.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { memory } from "./machine.ts";
import { SERVER, startClient } from "./pair.ts";

/**
 * How much more memory than in the first quarter there may be at the end. What a
 * server has once used the system's allocator keeps for the next clients. A
 * server's first minute says nothing: its memory still grows to what it needs.
 */
const GROWTH = 1.5;
const LEAST_MINUTES = 4;

const counted = { verified: 0, wrong: 0 };

// ---------------------------------------------------------------------- texts

/** A text, and the reply to it. */
interface Exchange {
  text: Uint8Array;
  reply: Uint8Array;
}

/** Many lines of each kind of text. */
const LINES: Exchange[][] = Object.keys(SENTENCES).map((name) =>
  lines(name, 1_000_000).split(/(?<=\n)/).map((line) => ({
    text: Buffer.from(line),
    reply: Buffer.from(line.toUpperCase()),
  }))
);

/** Bytes that are no UTF-8 between words, each with a space after it. */
const NO_TEXT: Exchange[] = Array.from({ length: 3000 }, () => {
  const hex = any(["ff", "c3", "e282", "f09f98", "80bf", "c0af", "00"]);
  const bytes = Buffer.from(`${hex}20`, "hex");
  return {
    text: Buffer.concat([Buffer.from("perché ß"), bytes]),
    reply: Buffer.concat([Buffer.from("PERCHÉ SS"), bytes]),
  };
});

function any<T>(choices: T[]): T {
  return choices[Math.floor(choices.length * Math.random())]!;
}

/** A whole number from 0 to below `end`, small ones more often. */
function some(end: number): number {
  return Math.floor(end * Math.random() ** 3);
}

/** Up to so many lines in a row, of one of the texts. */
function someLines(most: number, from = any(LINES)): Exchange {
  const start = some(from.length);
  const picked = from.slice(start, start + 1 + some(most));
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
}

/** If one of these meets with an error, that is the server's fault. */
const RIGHT: Kind[] = [
  {
    name: "send and read at the same time",
    atOnce: 8,
    run: (address) => sendAndRead(address, someLines(5000)),
  },
  {
    name: "read slowly",
    atOnce: 4,
    run: (address) =>
      sendAndRead(address, someLines(5000), () => moment(some(20))),
  },
  {
    name: "send bytes that are no text",
    atOnce: 2,
    run: (address) => sendAndRead(address, someLines(3000, NO_TEXT)),
  },
  {
    name: "talk, line by line",
    atOnce: 20,
    run: async (address) => {
      using socket = await Deno.connect(address);
      for (let line = some(200); line >= 0; line--) {
        const { text, reply } = someLines(1);
        await send(socket, text);
        await expectBytes(socket, reply);
      }
      await socket.closeWrite();
      await expectEnd(socket);
    },
  },
  {
    name: "send all, close that side, then read",
    atOnce: 4,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text, reply } = someLines(300); // sockets hold it while nobody reads
      await send(socket, text);
      await socket.closeWrite();
      await expectBytes(socket, reply);
      await expectEnd(socket);
    },
  },
];

/** What these meet with is their own fault. */
const WRONG: Kind[] = [
  {
    name: "say nothing",
    atOnce: 20,
    run: async (address) => {
      using socket = await Deno.connect(address);
      await readAll(socket); // until the idle timeout
    },
  },
  {
    name: "never read",
    atOnce: 2,
    run: async (address) => {
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
    name: "close with the reply unread",
    atOnce: 2,
    run: async (address) => {
      const socket = await Deno.connect(address);
      const sending = writeAll(socket, someLines(3000).text).catch(() => {});
      await socket.read(new Uint8Array(1));
      socket.close();
      await sending;
    },
  },
  {
    name: "flood: 50 connections at once",
    atOnce: 1,
    run: async (address) => {
      const sockets = await Promise.all(
        Array.from({ length: 50 }, () => Deno.connect(address)),
      );
      sockets.forEach((socket) => socket.close());
      await moment(200);
    },
  },
  {
    name: "die in the middle (client.ts, SIGKILL)",
    atOnce: 1,
    run: async (address) => {
      await using client = startClient(address);
      const sending = client.write(someLines(5000).text).catch(() => {});
      await client.stdoutMatch(/./);
      client.kill("SIGKILL");
      await client.ending();
      await sending;
    },
  },
];

/** Sends while it reads, ends its sending side, and compares the whole reply. */
async function sendAndRead(
  address: Address,
  { text, reply }: Exchange,
  beforeRead?: () => Promise<void>,
): Promise<void> {
  using socket = await Deno.connect(address);
  await Promise.all([
    send(socket, text).then(() => socket.closeWrite()),
    expectBytes(socket, reply, beforeRead),
  ]);
  await expectEnd(socket);
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
  beforeRead?: () => Promise<void>,
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
    counted.verified += count;
  }
}

async function expectEnd(socket: Deno.TcpConn): Promise<void> {
  const count = await socket.read(new Uint8Array(1));
  if (count !== null) throw new Error("more bytes than the reply has");
}

function moment(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// --------------------------------------------------------------------- server

/**
 * Reads the log to its end, and says which port its first line names. No line is
 * counted: a server that is busy may lose lines, and says how many.
 */
async function readLog(
  log: ReadableStream<Uint8Array>,
  onPort: (port: number) => void,
): Promise<void> {
  for await (const text of log.pipeThrough(new TextDecoderStream())) {
    const [, port] = text.match(/^listening on .*:(\d+)\n/) ?? [];
    if (port !== undefined) onPort(Number(port));
  }
}

function descriptors(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

function megabytes(pid: number): number {
  return memory(pid, "VmRSS") / 1e6;
}

// -------------------------------------------------------------------- program

async function main(minutes: number): Promise<void> {
  const server = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--allow-net", SERVER, "--port", "0"],
      ...["--idle-timeout", "5"], // silent clients leave while we watch
    ],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const listening = Promise.withResolvers<number>();
  const log = readLog(server.stdout, listening.resolve);
  log.then(() => listening.reject(new Error("the server has ended")));
  const address = { hostname: "127.0.0.1", port: await listening.promise };

  const descriptorsBefore = descriptors(server.pid);
  const samples = [megabytes(server.pid)];
  let descriptorsMost = descriptorsBefore;
  const clock = setInterval(() => {
    samples.push(megabytes(server.pid));
    descriptorsMost = Math.max(descriptorsMost, descriptors(server.pid));
  }, 250);
  const end = performance.now() + 60_000 * minutes;
  const sessions = new Map<string, number>();
  const again = async ({ name, run }: Kind, isRight: boolean) => {
    while (performance.now() < end) {
      await run(address).catch((error) => {
        if (!isRight) return;
        counted.wrong += 1;
        console.error(`soak: ${name}: ${error}`);
      });
      sessions.set(name, (sessions.get(name) ?? 0) + 1);
    }
  };
  const clients = [...RIGHT, ...WRONG].flatMap((kind) =>
    Array.from({ length: kind.atOnce }, () => again(kind, RIGHT.includes(kind)))
  );
  const gone = async () => {
    await Promise.all(clients);
    while (descriptors(server.pid) > descriptorsBefore) await moment(50);
    return true;
  };
  const tooLate = moment(60_000 * (minutes + 1)).then(() => false);
  const allGone = await Promise.race([gone(), tooLate]);
  clearInterval(clock);
  const descriptorsAfter = descriptors(server.pid);
  const memoryAfter = megabytes(server.pid);
  server.kill("SIGTERM");
  const [{ code }] = await Promise.all([server.status, log]);

  const quarter = Math.max(...samples.slice(0, Math.ceil(samples.length / 4)));
  const rows: [string, number][] = [
    ...[...RIGHT, ...WRONG].map(({ name }): [string, number] => [
      `clients that ${name}`,
      sessions.get(name) ?? 0,
    ]),
    ["bytes verified", counted.verified],
    ["replies with wrong or missing bytes", counted.wrong],
    ["descriptors before", descriptorsBefore],
    ["descriptors, at most", descriptorsMost],
    ["descriptors after", descriptorsAfter],
    ["memory before: MB", samples[0]!],
    ["memory, at most, in the first quarter: MB", quarter],
    ["memory after: MB", memoryAfter],
  ];
  console.log(`| in ${minutes} minutes | |\n| --- | ---: |`);
  for (const [what, count] of rows) {
    console.log(`| ${what} | ${Math.round(count).toLocaleString("en")} |`);
  }

  const failures = [
    !allGone && "a minute after the end there are still clients or descriptors",
    counted.wrong > 0 && "replies had wrong or missing bytes",
    code !== 0 && `the server ended with exit code ${code}`,
    minutes >= LEAST_MINUTES && memoryAfter > GROWTH * quarter &&
    "memory grew after the first quarter",
  ].filter((failure) => failure !== false);
  for (const failure of failures) console.error(`soak: ${failure}`);
  Deno.exit(failures.length > 0 ? 1 : 0);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { minutes: { type: "string", default: "4" } },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) {
    console.error(`soak: --minutes must be a number, not "${values.minutes}"`);
    Deno.exit(2);
  }
  await main(minutes);
}
