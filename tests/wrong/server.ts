// SPDX-License-Identifier: 0BSD

/**
 * Servers that are wrong in one way each, for the checks to find.
 *
 *     deno run --allow-net tests/wrong/server.ts FAULT [PORT]
 *
 * "none" is the one that they all are but for their fault.
 */

import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { writeAll } from "../../lib/parts/tcp.ts";
import { within } from "../../lib/parts/waits.ts";
import { reads, serveRight, texts, writeText } from "../sockets.ts";

type Serve = (connection: Deno.TcpConn) => Promise<unknown>;

/** Replies to whole lines, and keeps what is after them. */
async function wholeLines(
  connection: Deno.TcpConn,
  kept: { line: string },
): Promise<void> {
  await serveRight(connection, (text) => {
    const all = kept.line + text;
    const end = all.lastIndexOf("\n") + 1;
    kept.line = all.slice(end);
    return all.slice(0, end).toUpperCase();
  });
}

// -------------------------------------------------- wrong in what it makes of text

const TEXT_FAULTS: Record<string, (text: string) => string> = {
  "echoes": (text) => text,
  "loses line ends": (text) => text.toUpperCase().replaceAll("\n", ""),
  "capitalizes": (text) =>
    text.charAt(0).toUpperCase() + text.slice(1).toLowerCase(),
  "sends its buffer whole": (text) =>
    text.toUpperCase().padEnd(Math.ceil(text.length / 1024) * 1024, "\0"),
  "waits for \\r\\n": (text) => text.endsWith("\r\n") ? text.toUpperCase() : "",
  "waits for a length before the text": (text) =>
    text.startsWith("\0\0\0\x05") ? text.toUpperCase() : "",
  "decodes ASCII alone": (text) => {
    if (/[^\0-\x7f]/.test(text)) throw new Error("no ASCII");
    return text.toUpperCase();
  },
  "takes strlen() for the count": (text) => text.toUpperCase().split("\0")[0],
  "uppercases A to Z alone": (text) =>
    text.replace(/[a-z]/g, (letter) => letter.toUpperCase()),
  "uppercases letter by letter": (text) =>
    text.split("ß").map((part) => part.toUpperCase()).join("ß"),
  "changes line ends": (text) => text.toUpperCase().replaceAll("\r\n", "\n"),
  "ends its lines with \\r\\n": (text) =>
    text.toUpperCase().replaceAll(/\r?\n/g, "\r\n"),
  "answers the first 1,000 characters of a read": (text) =>
    text.slice(0, 1000).toUpperCase(),
  "never flushes": () => "",
  "speaks HTTP": () => "HTTP/1.1 400 Bad Request\r\n\r\n",
};

// ------------------------------------------------ wrong where a client is served

/** What all clients share, and should not. */
const sharedBuffers = Array.from({ length: 10 }, () => new Uint8Array(4096));
const sharedKept = { line: "" };
let lastWrite = Promise.resolve();
let lastAccepted: Deno.TcpConn;
let clients = 0;
const chat = new Set<Deno.TcpConn>();

/** Serves a client when so many others at most are served. */
async function atMost(count: number, connection: Deno.TcpConn): Promise<void> {
  while (clients >= count) await pause(10);
  clients += 1;
  await serveRight(connection).finally(() => clients -= 1);
}

const FAULTS: Record<string, Serve> = {
  "none": (connection) => serveRight(connection),
  "one client at a time": (connection) => atMost(1, connection),
  "ten clients at a time": (connection) => atMost(10, connection),
  "gives no place back": (connection) =>
    ++clients > 2 ? new Promise(() => {}) : serveRight(connection),

  async "answers one line a read"(connection) {
    let lines = "";
    for await (const text of texts(connection)) {
      lines += text.toUpperCase();
      const end = lines.indexOf("\n") + 1;
      await writeText(connection, lines.slice(0, end));
      lines = lines.slice(end);
    }
    await writeText(connection, lines);
  },

  async "fills a buffer before it answers"(connection) {
    let buffer = "";
    for await (const text of texts(connection)) {
      buffer += text.toUpperCase();
      if (buffer.length < 1024) continue;
      await writeText(connection, buffer);
      buffer = "";
    }
    await writeText(connection, buffer);
  },

  async "sends lines to the others alone"(connection) {
    chat.add(connection);
    for await (const text of texts(connection)) {
      const others = [...chat].filter((other) => other !== connection);
      const upper = text.toUpperCase();
      await Promise.all(others.map((other) => writeText(other, upper)));
    }
    chat.delete(connection);
  },

  async "cuts characters"(connection) {
    for await (const bytes of reads(connection)) {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      await writeText(connection, decoder.decode(bytes).toUpperCase());
    }
  },

  async "greets each client"(connection) {
    await writeText(connection, "Welcome!\n");
    await serveRight(connection);
  },

  async "writes Latin-1"(connection) {
    for await (const text of texts(connection)) {
      await writeAll(connection, Buffer.from(text.toUpperCase(), "latin1"));
    }
  },

  async "takes an empty line for the end"(connection) {
    let last = "\n";
    for await (const text of texts(connection)) {
      const all = last + text.toUpperCase();
      const end = all.indexOf("\n\n") + 1;
      await writeText(connection, all.slice(1, end || undefined));
      if (end > 0) return;
      last = all.slice(-1);
    }
  },

  async "answers after 4 s"(connection) {
    for await (const text of texts(connection)) {
      await pause(4000);
      await writeText(connection, text.toUpperCase());
    }
  },

  async "answers once, after a second"(connection) {
    const { value = "" } = await texts(connection).next();
    await pause(1000);
    await writeText(connection, value.toUpperCase());
  },

  async "closes after 2 s without a byte"(connection) {
    const reading = texts(connection);
    while (true) {
      const next = await within(2, reading.next());
      if (next === undefined || next.done) return;
      await writeText(connection, next.value.toUpperCase());
    }
  },

  async "pauses and never resumes"(connection) {
    let left = 64 * 1024;
    for await (const text of texts(connection)) {
      await writeText(connection, text.toUpperCase());
      left -= text.length;
      if (left <= 0) await new Promise(() => {});
    }
  },

  async "closes while it still writes"(connection) {
    let writing = Promise.resolve();
    for await (const text of texts(connection)) {
      writing = writing.then(() => writeText(connection, text.toUpperCase()))
        .catch(() => {});
    }
  },

  async "replies at the end only"(connection) {
    let all = "";
    for await (const text of texts(connection)) all += text;
    await writeText(connection, all.toUpperCase());
  },

  "forgets a last line without line end": (connection) =>
    wholeLines(connection, { line: "" }),

  async "mixes two clients' buffers"(connection) {
    await wholeLines(connection, sharedKept);
    await writeText(connection, sharedKept.line.toUpperCase());
    sharedKept.line = "";
  },

  async "closes after the first packet"(connection) {
    for await (const text of texts(connection)) {
      return await writeText(connection, text.toUpperCase());
    }
  },

  async "never closes"(connection) {
    await serveRight(connection);
    await new Promise(() => {});
  },

  async "one client that does not read holds up all"(connection) {
    for await (const text of texts(connection)) {
      lastWrite = lastWrite
        .then(() => writeText(connection, text.toUpperCase()))
        .catch(() => {});
      await lastWrite;
    }
  },

  "dies of bytes that are no text": (connection) =>
    serveRight(connection, undefined, { fatal: true, ignoreBOM: true })
      .catch((error) => error instanceof TypeError && die(error)),

  async "dies of an empty connection"(connection) {
    let count = 0;
    await serveRight(connection, (text) => {
      count += text.length;
      return text.toUpperCase();
    });
    if (count === 0) die(new Error("no line"));
  },

  "dies of a reset": (connection) => serveRight(connection).catch(die),

  async "dies of a broken pipe"(connection) {
    const isFatal = (error: unknown) => error instanceof Deno.errors.BrokenPipe;
    for await (const text of texts(connection)) {
      for (const line of text.toUpperCase().split(/(?<=\n)/)) {
        await writeText(connection, line)
          .catch((error) => isFatal(error) && die(error)); // as of SIGPIPE
      }
    }
  },

  async "never sees the end of input"(connection) {
    let last = "";
    for await (const text of texts(connection)) {
      last = text.toUpperCase() || last;
      await writeText(connection, text.toUpperCase());
    }
    // Without a line it would cost a core for ever.
    while (last !== "") await writeText(connection, last);
  },

  async "clients share ten buffers"(connection) {
    const buffer = sharedBuffers[clients++ % 10];
    while (true) {
      const count = await connection.read(buffer);
      if (count === null) return;
      await pause(0); // the others have their turn, as threads have
      const text = new TextDecoder().decode(buffer.subarray(0, count));
      await writeText(connection, text.toUpperCase());
    }
  },

  async "answers the same to everybody"(connection) {
    await connection.read(new Uint8Array(64 * 1024));
    await writeText(connection, "I got your message");
  },

  async "a new reader for each line"(connection) {
    let line = "";
    for await (const text of texts(connection)) {
      line += text;
      const end = line.indexOf("\n") + 1;
      if (end === 0) continue;
      await writeText(connection, line.slice(0, end).toUpperCase());
      line = ""; // what the reader had read ahead is gone with it
    }
  },

  async "one line a connection, and no close"(connection) {
    for await (const text of texts(connection)) {
      const line = text.split("\n")[0];
      await writeText(connection, `${line.toUpperCase()}\n`);
      await new Promise(() => {});
    }
  },

  async "serves whom accept() gave last"() {
    await pause(0); // accept() may have the next client by then
    await serveRight(lastAccepted);
  },

  "ends with its first client": (connection) =>
    serveRight(connection).finally(() => die("the loop is over")),

  "serves its first client alone": (connection) =>
    clients++ === 0 ? serveRight(connection) : new Promise(() => {}),
};

function die(error: unknown): never {
  console.error(error);
  Deno.exit(1);
}

// -------------------------------------------------------------------- program

const [fault = "", port = "0"] = Deno.args;
const text = TEXT_FAULTS[fault];
const serve = text
  ? (connection: Deno.TcpConn) => serveRight(connection, text)
  : FAULTS[fault];
if (serve === undefined) die(`no such fault: ${fault}`);
const listener = Deno.listen({ hostname: "127.0.0.1", port: Number(port) });
console.log(`listening on 127.0.0.1:${listener.addr.port}`);
while (true) {
  try {
    const connection = await listener.accept();
    lastAccepted = connection;
    serve(connection).catch(() => {}).finally(() => connection.close());
  } catch (error) {
    // This client has gone before it was accepted.
    if (!(error instanceof Deno.errors.NotConnected)) die(error);
  }
}
