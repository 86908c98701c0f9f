// SPDX-License-Identifier: 0BSD

/**
 * Minutes of clients of every kind at once against one `server.ts`: right ones
 * that check every byte of the reply, slow ones, silent ones, and those that
 * reset, flood, send what is no text or die in the middle.
 *
 *     deno task soak --minutes 30
 *
 * Exit code 1 if a byte of a reply was wrong or missing, if the server has not
 * given back every descriptor, or if its memory has grown since the first quarter.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import { type Address, readAll, reset, writeAll } from "../lib/parts/tcp.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { memory } from "./machine.ts";
import { SERVER, startClient } from "./pair.ts";

/** What the server is told: a silent client is to leave while we watch. */
const IDLE_TIMEOUT = 5;

/**
 * How much more memory than in the first quarter there may be at the end. What a
 * server has once used the system's allocator keeps for the next clients.
 */
const GROWTH = 1.5;

/** What was counted. */
const counted = {
  verified: 0,
  wrong: 0,
  connected: 0,
  closed: 0,
  logLines: 0,
};

// ------------------------------------------------------------------- the texts

/** A text, and the reply to it. */
interface Exchange {
  text: Uint8Array;
  reply: Uint8Array;
}

/** Many lines of each kind of text, with the reply to each. */
const LINES: Exchange[][] = Object.keys(SENTENCES).map((name) =>
  lines(name, 1_000_000).split(/(?<=\n)/).map((line) => ({
    text: Buffer.from(line),
    reply: Buffer.from(line.toUpperCase()),
  }))
);

/** Bytes that are no UTF-8 between words, each with a space after it. */
const NO_TEXT: Exchange[] = ["ff", "c3", "e282", "f09f98", "80bf", "c0af", "00"]
  .map((hex) => {
    const bytes = Buffer.from(hex, "hex");
    return {
      text: Buffer.concat([Buffer.from("perché ß"), bytes, Buffer.from(" ")]),
      reply: Buffer.concat([Buffer.from("PERCHÉ SS"), bytes, Buffer.from(" ")]),
    };
  });

/** A whole number from 0 to below `end`, small ones more often. */
function some(end: number): number {
  return Math.floor(end * Math.random() ** 3);
}

function any<T>(choices: T[]): T {
  return choices[Math.floor(choices.length * Math.random())]!;
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

// ----------------------------------------------------------------- the clients

/** Clients that do the same, again and again. */
interface Kind {
  name: string;
  /** How many of them there are at any time. */
  atOnce: number;
  /** What one does, from its connection to its end. */
  run: (address: Address) => Promise<void>;
}

const RIGHT: Kind[] = [
  {
    name: "send and read at the same time",
    atOnce: 8,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text, reply } = someLines(5000);
      await Promise.all([
        send(socket, text).then(() => socket.closeWrite()),
        expectReply(socket, reply),
      ]);
    },
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
      await expectReply(socket, new Uint8Array(0));
    },
  },
  {
    name: "send all, close that side, then read",
    atOnce: 4,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text, reply } = someLines(300); // fits where nobody has to read
      await send(socket, text);
      await socket.closeWrite();
      await expectReply(socket, reply);
    },
  },
  {
    name: "read slowly",
    atOnce: 4,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text, reply } = someLines(5000);
      await Promise.all([
        send(socket, text).then(() => socket.closeWrite()),
        expectReply(socket, reply, () => moment(some(20))),
      ]);
    },
  },
  {
    name: "send what is no text",
    atOnce: 2,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const many = Array.from({ length: some(3000) }, () => any(NO_TEXT));
      const { text, reply } = someLines(many.length, many);
      await Promise.all([
        send(socket, text).then(() => socket.closeWrite()),
        expectReply(socket, reply),
      ]);
    },
  },
];

const WRONG: Kind[] = [
  {
    name: "say nothing",
    atOnce: 20,
    run: async (address) => {
      using socket = await Deno.connect(address);
      await readAll(socket); // until the server closes
    },
  },
  {
    name: "never read",
    atOnce: 2,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text } = someLines(5000);
      try {
        while (true) await writeAll(socket, text);
      } catch {
        // The server has closed it.
      }
    },
  },
  {
    name: "reset at once",
    atOnce: 1,
    run: async (address) => {
      await reset(address);
    },
  },
  {
    name: "reset in a transfer",
    atOnce: 2,
    run: async (address) => {
      await reset(address, async (send, reply) => {
        send(someLines(5000).text);
        await reply;
      });
    },
  },
  {
    name: "close with the reply unread",
    atOnce: 2,
    run: async (address) => {
      using socket = await Deno.connect(address);
      const { text } = someLines(3000);
      const sending = writeAll(socket, text).catch(() => {});
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

/** Sends a text in pieces of any size, wherever that cuts it. */
async function send(socket: Deno.TcpConn, text: Uint8Array): Promise<void> {
  for (let at = 0; at < text.length;) {
    const piece = text.subarray(at, at + 1 + some(200_000));
    await writeAll(socket, piece);
    at += piece.length;
  }
}

/** Reads so many bytes and compares them. */
async function expectBytes(
  socket: Deno.TcpConn,
  reply: Uint8Array,
  beforeRead: () => Promise<void> | undefined = () => undefined,
): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (let at = 0; at < reply.length;) {
    await beforeRead();
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

/** As {@linkcode expectBytes}, and then the end of the connection. */
async function expectReply(
  socket: Deno.TcpConn,
  reply: Uint8Array,
  beforeRead?: () => Promise<void>,
): Promise<void> {
  await expectBytes(socket, reply, beforeRead);
  if (await socket.read(new Uint8Array(1)) !== null) {
    throw new Error("more bytes than the reply has");
  }
}

function moment(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// ------------------------------------------------------------------ the server

/** Reads the log, line by line, and counts. */
async function readLog(log: ReadableStream<Uint8Array>): Promise<void> {
  let rest = "";
  for await (const text of log.pipeThrough(new TextDecoderStream())) {
    const [...whole] = (rest + text).split("\n");
    rest = whole.pop()!;
    for (const line of whole) {
      counted.logLines += 1;
      if (line.includes(" connected, ")) counted.connected += 1;
      if (line.includes(" closed, ")) counted.closed += 1;
      const [, port] = line.match(/^listening on .*:(\d+)$/) ?? [];
      if (port) listening.resolve({ port: Number(port) });
    }
  }
  listening.reject(new Error("the server has ended"));
}

const listening = Promise.withResolvers<{ port: number }>();

/** What the server holds. */
interface Sample {
  descriptors: number;
  megabytes: number;
  open: number;
}

function sample(pid: number): Sample {
  const descriptors = [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
  const megabytes = memory(pid, "VmRSS") / 1e6;
  return { descriptors, megabytes, open: counted.connected - counted.closed };
}

function most(samples: Sample[], what: keyof Sample): number {
  return Math.max(...samples.map((one) => one[what]));
}

// ----------------------------------------------------------------- the program

const USAGE = `Minutes of clients of every kind at once against server.ts.

Usage: deno task soak [options]

  --minutes N   how long (default 2), such as 0.5
  -h, --help    show this

Exit code 1 if a byte of a reply was wrong or missing, or if the server has not
given back what it took.

  deno task soak
  deno task soak --minutes 30`;

async function main(minutes: number): Promise<void> {
  const server = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--allow-net", SERVER, "--port", "0"],
      ...["--idle-timeout", `${IDLE_TIMEOUT}`],
    ],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const log = readLog(server.stdout);
  const { port } = await listening.promise;
  const address = { hostname: "127.0.0.1", port };

  const samples = [sample(server.pid)];
  const clock = setInterval(() => samples.push(sample(server.pid)), 250);
  const end = performance.now() + 60_000 * minutes;
  const sessions = new Map<string, number>();
  const again = async ({ name, run }: Kind, right: boolean) => {
    while (performance.now() < end) {
      try {
        await run(address);
      } catch (error) {
        // What a wrong client meets with is its own fault.
        if (right) counted.wrong += 1;
        if (right) console.error(`soak: ${name}: ${error}`);
      }
      sessions.set(name, (sessions.get(name) ?? 0) + 1);
    }
  };
  const all = (kinds: Kind[], right: boolean) =>
    kinds.flatMap((kind) =>
      Array.from({ length: kind.atOnce }, () => again(kind, right))
    );
  const done = Promise.all([...all(RIGHT, true), ...all(WRONG, false)]);
  const tooLate = moment(60_000 * (minutes + 1)).then(() => false);
  const ended = await Promise.race([done.then(() => true), tooLate]);
  while (ended && counted.connected !== counted.closed) await moment(50);
  clearInterval(clock);
  samples.push(sample(server.pid));
  server.kill("SIGTERM");
  const [{ code }] = await Promise.all([server.status, log]);

  const total = (kinds: Kind[]) =>
    kinds.reduce((sum, { name }) => sum + (sessions.get(name) ?? 0), 0);
  const kinds = [...RIGHT, ...WRONG].map(({ name }) => [
    name,
    whole(sessions.get(name) ?? 0),
  ]);
  const quarter = samples.slice(0, Math.ceil(samples.length / 4));
  const held = (title: string, what: keyof Sample) => [
    title,
    whole(samples[0]![what]),
    whole(most(quarter, what)),
    whole(most(samples, what)),
    whole(samples.at(-1)![what]),
  ];
  console.log([
    table([
      ["the server held", "at start", "first quarter", "peak", "at end"],
      held("connections open", "open"),
      held("descriptors", "descriptors"),
      held("memory, MB", "megabytes"),
    ]),
    table([["clients that", "sessions"], ...kinds]),
    table([
      [`${minutes} minutes`, ""],
      ["connections accepted", whole(counted.connected)],
      ["bytes verified", whole(counted.verified)],
      ["sessions that misbehave", whole(total(WRONG))],
      ["replies with wrong or missing bytes", whole(counted.wrong)],
      ["log lines", whole(counted.logLines)],
    ]),
  ].join("\n"));

  const [first, last] = [samples[0]!, samples.at(-1)!];
  const failures = [
    [!ended, "clients still wait, a minute after the end"],
    [counted.wrong > 0, "replies had wrong or missing bytes"],
    [code !== 0, `the server ended with exit code ${code}`],
    [last.descriptors > first.descriptors, "descriptors were not given back"],
    [
      last.megabytes > GROWTH * most(quarter, "megabytes"),
      "memory grew after the first quarter",
    ],
  ].filter(([failed]) => failed);
  for (const [, failure] of failures) console.error(`soak: ${failure}`);
  Deno.exit(failures.length > 0 ? 1 : 0);
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}

/** A table in Markdown, numbers to the right. */
function table(rows: string[][]): string {
  const [head, ...body] = rows;
  const line = (cells: string[]) => `| ${cells.join(" | ")} |\n`;
  const rule = head!.map((_, column) => column === 0 ? "---" : "---:");
  return [head!, rule, ...body].map(line).join("");
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "2" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const minutes = Number(values.minutes);
  if (values.help) console.log(USAGE);
  else if (!(minutes > 0)) {
    console.error(`soak: --minutes must be a number, not "${values.minutes}"`);
    Deno.exit(2);
  } else await main(minutes);
}
