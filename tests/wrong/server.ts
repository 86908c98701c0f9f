// SPDX-License-Identifier: 0BSD

/**
 * Servers that are wrong in one way each, for the checks to find.
 *
 *     deno run --allow-net tests/wrong/server.ts FAULT [PORT]
 *
 * "none" is the one that they all are but for their fault.
 *
 * @module
 */

import { writeAll } from "../../lib/parts/tcp.ts";
import { serveHere } from "../serve.ts";

type Serve = (connection: Deno.TcpConn) => Promise<void>;

/** Serves a client as it should be. */
async function right(
  connection: Deno.TcpConn,
  uppercase = (text: string) => text.toUpperCase(),
  more = () => true,
): Promise<void> {
  for await (const text of texts(connection)) {
    await write(connection, uppercase(text));
    if (!more()) return;
  }
}

/** What comes, read by read. */
async function* reads(connection: Deno.TcpConn): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(64 * 1024);
  while (true) {
    const count = await connection.read(buffer);
    if (count === null) return;
    yield buffer.subarray(0, count);
  }
}

/** The same as text. */
async function* texts(
  connection: Deno.TcpConn,
  options: TextDecoderOptions = { ignoreBOM: true },
): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", options);
  for await (const bytes of reads(connection)) {
    yield decoder.decode(bytes, { stream: true });
  }
  yield decoder.decode();
}

/** Serves line by line, the ends of lines cut off, until a reply is null. */
async function byLines(
  connection: Deno.TcpConn,
  reply: (line: string) => string | null,
): Promise<void> {
  let line = "";
  for await (const text of texts(connection)) {
    const lines = (line + text).split(/\r?\n/);
    line = lines.pop()!;
    const replies = lines.map(reply);
    const end = replies.indexOf(null);
    await write(
      connection,
      replies.slice(0, end < 0 ? undefined : end).join(""),
    );
    if (end >= 0) return;
  }
  if (line !== "") await write(connection, reply(line)!);
}

function write(connection: Deno.TcpConn, text: string): Promise<void> {
  return writeAll(connection, new TextEncoder().encode(text));
}

// ------------------------------------------------ wrong where a client is served

/** What all clients share, and should not. */
let halfLine = "";
let lastWrite = Promise.resolve();
let places = 10;
const queue: (() => void)[] = [];

const FAULTS: Record<string, Serve> = {
  "none": right,
  "one client at a time": right,
  "dies of an early reset": right,

  async "cuts characters"(connection) {
    for await (const bytes of reads(connection)) {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      await write(connection, decoder.decode(bytes).toUpperCase());
    }
  },

  async "greets each client"(connection) {
    await write(connection, "Welcome!\n");
    await right(connection);
  },

  "labels its replies": (connection) =>
    right(connection, (text) => `Reply: ${text.toUpperCase()}`),

  async "writes Latin-1"(connection) {
    for await (const text of texts(connection)) {
      const codes = [...text.toUpperCase()].map((one) => one.codePointAt(0)!);
      await writeAll(connection, new Uint8Array(codes));
    }
  },

  "sends its buffer whole": (connection) =>
    right(connection, (text) => {
      const whole = Math.ceil(text.length / 1024) * 1024;
      return text.toUpperCase().padEnd(whole, "\0");
    }),

  async "never flushes"(connection) {
    for await (const text of texts(connection)) if (text !== "") return;
  },

  "answers in \\r\\n": (connection) =>
    byLines(connection, (line) => `${line.toUpperCase()}\r\n`),

  "takes an empty line for the end": (connection) =>
    byLines(
      connection,
      (line) => line === "" ? null : `${line.toUpperCase()}\n`,
    ),

  async "has lines of 64 KB at most"(connection) {
    let length = 0;
    await right(connection, (text) => {
      length = text.includes("\n")
        ? text.length - text.lastIndexOf("\n")
        : length + text.length;
      if (length > 64 * 1024) throw new Error("token too long");
      return text.toUpperCase();
    });
  },

  async "closes after 2 s without a byte"(connection) {
    const timer = () => setTimeout(() => connection.close(), 2000);
    let reading = timer();
    for await (const text of texts(connection)) {
      clearTimeout(reading);
      await write(connection, text.toUpperCase());
      reading = timer();
    }
    clearTimeout(reading);
  },

  async "pauses and never resumes"(connection) {
    let left = 64 * 1024;
    await right(connection, (text) => {
      left -= text.length;
      return text.toUpperCase();
    }, () => left > 0);
    if (left <= 0) await new Promise(() => {});
  },

  async "keeps replies in memory"(connection) {
    let writing = Promise.resolve();
    for await (const text of texts(connection)) {
      writing = writing.then(() => write(connection, text.toUpperCase()))
        .catch(() => {});
    }
    await writing;
  },

  async "drops the tail at half-close"(connection) {
    let tail = "";
    let timer: ReturnType<typeof setTimeout> | undefined;
    for await (const text of texts(connection)) {
      tail += text.toUpperCase();
      clearTimeout(timer);
      timer = setTimeout(() => {
        write(connection, tail).catch(() => {});
        tail = "";
      }, 20);
    }
    clearTimeout(timer);
  },

  async "replies at the end only"(connection) {
    let all = "";
    for await (const text of texts(connection)) all += text;
    await write(connection, all.toUpperCase());
  },

  "lower-cases": (connection) =>
    right(connection, (text) => text.toLowerCase()),

  "loses line ends": (connection) =>
    right(connection, (text) => text.toUpperCase().replaceAll("\n", "")),

  "changes line ends": (connection) =>
    byLines(connection, (line) => `${line.toUpperCase()}\n`),

  async "forgets a last line without line end"(connection) {
    let line = "";
    for await (const text of texts(connection)) {
      line += text;
      const end = line.lastIndexOf("\n") + 1;
      await write(connection, line.slice(0, end).toUpperCase());
      line = line.slice(end);
    }
  },

  async "mixes two clients' buffers"(connection) {
    for await (const text of texts(connection)) {
      halfLine += text;
      const end = halfLine.lastIndexOf("\n") + 1;
      const lines = halfLine.slice(0, end);
      halfLine = halfLine.slice(end);
      await write(connection, lines.toUpperCase());
    }
    await write(connection, halfLine.toUpperCase());
    halfLine = "";
  },

  async "stops at 64 KB"(connection) {
    let left = 64 * 1024;
    for await (const text of texts(connection)) {
      await write(connection, text.slice(0, left).toUpperCase());
      left -= text.length;
      if (left <= 0) return;
    }
  },

  async "closes after the first packet"(connection) {
    for await (const text of texts(connection)) {
      return await write(connection, text.toUpperCase());
    }
  },

  async "sends the halves of a long read in turn"(connection) {
    for await (const text of texts(connection)) {
      const half = text.length > 1000 ? text.length >> 1 : 0;
      await write(connection, text.slice(half).toUpperCase());
      await write(connection, text.slice(0, half).toUpperCase());
    }
  },

  async "never closes"(connection) {
    await right(connection);
    await new Promise(() => {});
  },

  async "one client that does not read holds up all"(connection) {
    for await (const text of texts(connection)) {
      lastWrite = lastWrite
        .then(() => write(connection, text.toUpperCase()))
        .catch(() => {});
      await lastWrite;
    }
  },

  async "ten clients at a time"(connection) {
    if (places === 0) await new Promise<void>((free) => queue.push(free));
    else places -= 1;
    try {
      await right(connection);
    } finally {
      const next = queue.shift();
      if (next) next();
      else places += 1;
    }
  },

  async "dies of bytes that are no text"(connection) {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    for await (const bytes of reads(connection)) {
      try {
        const text = decoder.decode(bytes, { stream: true });
        await write(connection, text.toUpperCase());
      } catch (error) {
        if (error instanceof TypeError) die(error);
        throw error;
      }
    }
  },

  async "dies of an empty connection"(connection) {
    let count = 0;
    await right(connection, (text) => {
      count += text.length;
      return text.toUpperCase();
    });
    if (count === 0) die(new Error("no line"));
  },

  async "dies of a reset"(connection) {
    try {
      await right(connection);
    } catch (error) {
      die(error);
    }
  },

  async "uppercases A to Z alone"(connection) {
    for await (const bytes of reads(connection)) {
      const upper = bytes.map((byte) =>
        byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte
      );
      await writeAll(connection, upper);
    }
  },

  "uppercases letter by letter": (connection) =>
    right(connection, (text) =>
      [...text].map((letter) => {
        const upper = letter.toUpperCase();
        return upper.length === letter.length ? upper : letter;
      }).join("")),

  async "takes a byte order mark away"(connection) {
    for await (const text of texts(connection, {})) {
      await write(connection, text.toUpperCase());
    }
  },
};

function die(error: unknown): never {
  console.error(error);
  Deno.exit(1);
}

// -------------------------------------------------- wrong where it accepts clients

const [fault = "", port = "0"] = Deno.args;
const handle = FAULTS[fault];
if (handle === undefined) {
  console.error(`wrong: no such fault: ${JSON.stringify(fault)}`);
  Deno.exit(2);
}
const { address } = serveHere(handle, {
  port: Number(port),
  inTurn: fault === "one client at a time",
  onError: (error) => {
    if (fault === "dies of an early reset") die(error);
  },
});
console.log(`listening on 127.0.0.1:${address.port}`);
