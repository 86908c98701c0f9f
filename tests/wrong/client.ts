// SPDX-License-Identifier: 0BSD

/**
 * Clients that are wrong in one way each, for the checks to find.
 *
 *     deno run --allow-net tests/wrong/client.ts FAULT PORT
 *
 * But for its fault each sends what is typed, and prints what comes.
 */

import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { writeAll } from "../../lib/parts/tcp.ts";
import { within } from "../../lib/parts/waits.ts";
import { reads } from "../sockets.ts";

const [fault = "", port = ""] = Deno.args;

function connect(): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
}

// A character is a byte in all texts here.

async function* typed(): AsyncGenerator<string> {
  for await (const bytes of Deno.stdin.readable) {
    yield Buffer.from(bytes).toString("latin1");
  }
}

async function* came(socket: Deno.TcpConn): AsyncGenerator<string> {
  for await (const bytes of reads(socket)) {
    yield Buffer.from(bytes).toString("latin1");
  }
}

function write(socket: Deno.TcpConn, text: string): Promise<void> {
  return writeAll(socket, Buffer.from(text, "latin1"));
}

async function show(text: string): Promise<void> {
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length;) {
    at += await Deno.stdout.write(bytes.subarray(at));
  }
}

/** Sends what is typed, and then the end of input. */
async function send(
  socket: Deno.TcpConn,
  change = (text: string) => text,
): Promise<void> {
  for await (const text of typed()) await write(socket, change(text));
  await socket.closeWrite();
}

/** Prints what comes. */
async function print(
  socket: Deno.TcpConn,
  change = (text: string) => text,
): Promise<void> {
  for await (const text of came(socket)) await show(change(text));
}

/** Sends one line at a time, and prints what one reply gives. */
async function inTurns(
  socket: Deno.TcpConn,
  reply: (text: AsyncGenerator<string>) => Promise<string>,
): Promise<void> {
  const replies = came(socket);
  let rest = "";
  for await (const text of typed()) {
    const lines = (rest + text).split(/(?<=\n)/);
    rest = text.endsWith("\n") ? "" : lines.pop()!;
    for (const line of lines) {
      await write(socket, line);
      await show(await reply(replies));
    }
  }
  await write(socket, rest);
  await socket.closeWrite();
  for await (const text of replies) await show(text);
}

const forEver = () => pause(1_000_000);

// ------------------------------------------------- wrong in what it makes of text

/** What is sent for what is typed. */
const SENDS: Record<string, (text: string) => string> = {
  "loses line ends": (text) => text.replaceAll("\n", ""),
  "sends its first line alone": (text) =>
    sentLines++ === 0 ? text.replace(/\n.*/s, "\n") : "",
  "takes a zero byte for the end": (text) => text.replace(/\0.*(?=\n)/g, ""),
  "sends Latin-1": (text) =>
    Buffer.from(text, "latin1").toString().replace(/[^\0-\xff]/g, "?"),
};
let sentLines = 0;

/** What is printed for what came. */
const PRINTS: Record<string, (text: string) => string> = {
  "prints a label": (text) => `Server: ${text}`,
  "takes a reply for a format": (text) => text.replace("%X", "7ffd"),
  "prints its last reply again": (text) => {
    const before = lastReply;
    lastReply = text;
    return text + before;
  },
  "adds a line end": (text) => text.endsWith("\n") ? text : `${text}\n`,
  "prints one line of each read": (text) => text.replace(/\n.*/s, "\n"),
};

let lastReply = "";

// ------------------------------------------------------- wrong in what it does

const FAULTS: Record<string, (socket: Deno.TcpConn) => Promise<unknown>> = {
  async "sends one line and prints one reply"(socket) {
    for await (const text of typed()) {
      await write(socket, text.replace(/\n.*/s, "\n"));
      return await show((await came(socket).next()).value ?? "");
    }
  },

  async "never ends its sending side"(socket) {
    const sending = async () => {
      for await (const text of typed()) await write(socket, text);
    };
    await Promise.all([sending(), print(socket)]);
  },

  async "does not see the end of the replies"(socket) {
    await Promise.all([send(socket), print(socket)]);
    await forEver();
  },

  async "prints null without end"(socket) {
    await Promise.all([send(socket), print(socket)]);
    while (true) await show("null\n");
  },

  async "ends with exit code 1"(socket) {
    await Promise.all([send(socket), print(socket)]);
    Deno.exit(1);
  },

  "reads once for each line": (socket) =>
    inTurns(socket, async (replies) => (await replies.next()).value ?? ""),

  "gives up after 2 s": (socket) =>
    inTurns(socket, async (replies) => {
      let reply = "";
      while (!reply.endsWith("\n")) {
        const next = await within(2, replies.next());
        if (!next || next.done) break;
        reply += next.value;
      }
      return reply;
    }),

  async "closes at the end of input"(socket) {
    let open = 0; // bytes without a reply
    const printing = print(socket, (text) => {
      open -= text.length;
      return text;
    }).catch(() => {}).then(() => open = 0);
    for await (const text of typed()) {
      open += text.length;
      await write(socket, text);
    }
    while (open > 0 && await within(1, pause(10, true)));
    socket.close();
    await printing;
  },

  async "reads nothing until all is sent"(socket) {
    await send(socket);
    await print(socket);
  },

  "goes on after a reset": (socket) =>
    Promise.all([send(socket), print(socket)]).catch(forEver),
};

const NO_CONNECTION: Record<string, () => Promise<unknown>> = {
  "ends with 0 if nobody listens": () => Deno.exit(0),
};

// -------------------------------------------------------------------- program

if (!(fault in { ...SENDS, ...PRINTS, ...FAULTS, ...NO_CONNECTION })) {
  throw new Error(`no such fault: ${fault}`);
}
const run = FAULTS[fault] ??
  ((socket) =>
    Promise.all([send(socket, SENDS[fault]), print(socket, PRINTS[fault])]));
const socket = await connect().catch(async (error) => {
  await NO_CONNECTION[fault]?.();
  throw error;
});
await run(socket);
Deno.exit(0); // also if there is more to read from the keyboard
