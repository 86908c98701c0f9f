// SPDX-License-Identifier: 0BSD

/**
 * Draws the lecture's diagram of a client and a server while they talk. It stands
 * between them, passes everything on as it is, and prints one line an event.
 *
 *     deno run --allow-net lib/watch.ts --port 7000 --to 6789
 *     deno run --allow-net client.ts --port 7000
 *
 * It sees what each side's system tells a program: bytes, the end of input (FIN),
 * a reset (RST). It sees no packets. `accept()` stands for a connection that the
 * server's system has made; the server's program may take it later.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import {
  type AddressInfo,
  BlockList,
  connect,
  createServer,
  type Socket,
} from "node:net";
import { setTimeout } from "node:timers";
import { parseArgs } from "node:util";
import {
  fail,
  help,
  messageOf,
  readOptions,
  wholeNumber,
} from "./parts/command_line.ts";
import { type Address, CAN_RESET, format } from "./parts/tcp.ts";
import { number } from "./parts/words.ts";

const USAGE =
  `Draws what a client and a server say to each other, and who waits.

Usage: deno run --allow-net lib/watch.ts [options]

  -p, --port N           where the client connects to (7000); 0 picks a free one
      --to [HOST:]PORT   where the server listens (6789)
  -h, --help`;

/** Where watch listens: only programs on this machine are its clients. */
const HOSTNAME = "127.0.0.1";
/** Milliseconds after which a silence is explained. */
const SILENCE = 3000;
/** Milliseconds: a text that is written byte by byte becomes one line. */
const TOGETHER = 10;
/** Half-close stays half-close, and small messages do not wait. */
const AS_IT_IS = { allowHalfOpen: true, noDelay: true };

/** Reads the command line. */
function parse() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", short: "p", default: "7000" },
      to: { type: "string", default: "6789" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) help(USAGE);
  // PORT, HOST:PORT or [IPV6]:PORT. Anything else is no port.
  const pattern = /^(?:(?:\[(.*)\]|([^:]*)):)?([^:]*)$/;
  const [, ipv6, host, toPort = values.to] = values.to.match(pattern) ?? [];
  return {
    port: wholeNumber("--port", values.port, 0, 65535),
    to: {
      hostname: ipv6 || host || HOSTNAME,
      port: wholeNumber("--to", toPort, 1, 65535),
    },
  };
}

/** Listens, and watches each client that comes. */
async function main({ port, to }: ReturnType<typeof parse>): Promise<void> {
  if (to.port === port && await isHere(to.hostname)) {
    const why = `--to ${format(to)} is where watch itself listens`;
    fail("watch", `${why} (--help shows the options)`, 2);
  }
  try {
    // This says what is wrong. The server of `node:net` has no words for some errors,
    // and without permission it ends in a stack trace.
    Deno.listen({ hostname: HOSTNAME, port }).close();
  } catch (error) {
    fail("watch", `cannot listen on ${HOSTNAME}:${port}: ${messageOf(error)}`);
  }
  const listener = createServer(AS_IT_IS, (client) => new Session(client, to));
  listener.listen(port, HOSTNAME, () => {
    const { port } = listener.address() as AddressInfo;
    console.log(`listening on ${HOSTNAME}:${port}`);
    console.log(`watching ${format(to)}`);
    console.log(`give your client port ${port} instead`);
    if (!CAN_RESET) console.log("this Deno passes a reset on as a close");
  });
}

/** Whether a connection to this name comes to the address where watch listens. */
async function isHere(name: string): Promise<boolean> {
  const here = new BlockList(); // it knows an address in all spellings
  here.addAddress(HOSTNAME);
  here.addAddress("0.0.0.0"); // the system takes it for 127.0.0.1
  // A name that nobody knows has no address: each session will say so.
  const found = await lookup(name, { all: true }).catch(() => []);
  return found.some(({ address, family }) =>
    here.check(address, family === 6 ? "ipv6" : "ipv4")
  );
}

// ------------------------------------------------------------- one connection

/** Those whose client is still connected, the first one first. */
const sessions = new Set<Session>();

/** A client's connection, and the one to the server that belongs to it. */
class Session {
  static #count = 0;
  readonly #number = ++Session.#count;
  readonly #client: Socket;
  readonly #server: Socket;
  /** Who was the last to send bytes. */
  #lastToSend?: Socket;
  /** Its bytes that are not drawn yet, and when the first of them came. */
  readonly #reads: Buffer[] = [];
  #since = 0;
  /** Started by the first read of a line. */
  readonly #together = setTimeout(() => this.#drawReads(), TOGETHER);
  /** Begins again with each line of the picture. */
  readonly #silence = setTimeout(() => {
    const why = this.#whoWaits();
    if (why) this.#print(`silence: ${why}`);
  }, SILENCE);

  constructor(client: Socket, to: Address) {
    const server = connect({ ...AS_IT_IS, host: to.hostname, port: to.port });
    this.#client = client;
    this.#server = server;
    console.log();
    sessions.add(this);
    client.on("close", () => sessions.delete(this));
    client.on("error", () => this.#reset(client, server));
    once(server, "connect").then(
      () => this.#connected(to),
      (error) => this.#notConnected(to, error),
    );
  }

  /** Passes everything on both ways, with its end and with backpressure. */
  #connected({ port }: Address) {
    const [client, server] = [this.#client, this.#server];
    const left = `client port ${client.remotePort}`.padEnd(34);
    this.#print(`${left}passive open: server port ${port}`);
    this.#draw(client, "connect()", "active open", "accept()");
    server.on("error", () => this.#reset(server, client));
    for (const [side, other] of [[client, server], [server, client]] as const) {
      side.on("data", (chunk: Buffer) => {
        if (side !== this.#lastToSend) this.#drawReads();
        this.#lastToSend = side;
        if (this.#reads.push(chunk) > 1) return;
        this.#since = performance.now();
        this.#together.refresh();
      });
      side.on("end", () => {
        const text = side === client ? "sends no more" : "close()";
        const label = other.readableEnded ? "FIN" : "FIN: active close";
        this.#draw(side, text, label);
      });
      side.pipe(other);
    }
  }

  #notConnected(to: Address, error: Error & { code?: string }) {
    if (error.code === "ECONNRESET") { // the server has accepted, and reset at once
      this.#connected(to);
      return this.#reset(this.#server, this.#client);
    }
    this.#draw(this.#client, "connect()", "X");
    const isRefused = error.code === "ECONNREFUSED";
    const why = isRefused ? "start it first" : messageOf(error);
    this.#print(`no server at ${format(to)}: ${why}`);
    this.#client.destroy();
  }

  /** One side has reset its connection: so is the other one's. */
  #reset(side: Socket, other: Socket) {
    this.#draw(side, "reset", "RST");
    const who = side === this.#client ? "client" : "server";
    this.#print(`the ${who} broke off: it died, or closed with bytes unread`);
    if (CAN_RESET) other.resetAndDestroy();
    else other.destroy();
  }

  /** What holds the connection, out of what was seen. */
  #whoWaits(): string | undefined {
    const [client, server] = [this.#client, this.#server];
    if (client.destroyed) return undefined; // it is over
    if (server.connecting) return "the server's machine does not answer";
    if (client.writableNeedDrain || server.writableNeedDrain) {
      const deaf = client.writableNeedDrain ? "client" : "server";
      return `the ${deaf} does not read; bytes wait here`;
    }
    if (client.readableEnded) {
      return "the client has sent its FIN; the server has not closed";
    }
    if (server.readableEnded) {
      return "the server has closed; the client goes on (no FIN)";
    }
    if (!this.#lastToSend) return undefined; // both still think
    if (this.#lastToSend === server) {
      return "the server has answered; the client has sent no FIN";
    }
    const [first] = sessions;
    return first === this
      ? "the server does not answer; the client has sent no FIN"
      : `the server does not answer; is it busy with #${first.#number}?`;
  }

  /** Reads in a row from one side are one line. */
  #drawReads() {
    const bytes = Buffer.concat(this.#reads.splice(0));
    if (bytes.length === 0) return;
    const unit = bytes.length === 1 ? "byte" : "bytes";
    const label = `${number(bytes.length)} ${unit}`;
    this.#draw(this.#lastToSend!, quoted(bytes), label, "", this.#since);
  }

  /** One event: `text` on the side that did it, an arrow to the other one. */
  #draw(side: Socket, text: string, label: string, effect = "", at?: number) {
    this.#drawReads();
    const shaft = ` ${label} `.padStart((SHAFT + label.length) / 2 + 1, "-")
      .padEnd(SHAFT, "-");
    const line = side === this.#client
      ? `${text}${" ".repeat(TEXT - columns(text))} ${shaft}> ${effect}`
      : `${" ".repeat(TEXT)} <${shaft} ${text}`;
    this.#print(line.trimEnd(), at);
    this.#silence.refresh();
  }

  /** A line: the client's number, the seconds since this program began, a text. */
  #print(text: string, at = performance.now()) {
    const client = `#${this.#number} `;
    const seconds = (at / 1000).toFixed(3);
    console.log(`${client}${seconds.padStart(12 - client.length)} ${text}`);
  }
}

// ---------------------------------------------------------------- the picture

// In 80 columns: number and time take 13, an arrow its shaft and 3 more.
/** Columns of the text on each side. */
const TEXT = 19;
const SHAFT = 26;

/** The beginning of what was sent, as it is written in a program, cut to fit. */
function quoted(bytes: Buffer): string {
  const beginning = bytes.subarray(0, 4 * TEXT); // more than fit
  const characters = [...beginning.toString()];
  const escaped = () =>
    JSON.stringify(characters.join("")).replace(
      /\p{C}/gu,
      (hidden) => `\\u{${hidden.codePointAt(0)!.toString(16)}}`,
    );
  const isWhole = beginning.length === bytes.length;
  if (isWhole && columns(escaped()) <= TEXT) return escaped();
  while (columns(escaped()) > TEXT - 3) characters.pop();
  return `${escaped()}...`;
}

/** The columns that a text takes on a terminal at most: 😀 and 世 take two. */
function columns(text: string): number {
  return text.replace(/[\u2e80-\u{10ffff}\p{Emoji_Presentation}]/gu, "..")
    .length;
}

if (import.meta.main) await main(readOptions("watch", parse));
