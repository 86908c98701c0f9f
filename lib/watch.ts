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
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { readOptions, wholeNumber } from "./parts/options.ts";
import { fail, messageOf } from "./parts/terminal.ts";
import { type Address, format } from "./parts/tcp.ts";
import { number } from "./parts/words.ts";

const HELP = `Draws what a client and a server say to each other, and who waits.

usage: deno run --allow-net lib/watch.ts [options]

  -p, --port N           where the client connects to (7000); 0 picks a free one
      --hostname NAME    address to listen on (127.0.0.1)
      --to [HOST:]PORT   where the server listens (6789)
  -h, --help`;

/** Milliseconds after which a silence is explained. */
const SILENCE = 3000;
/** Milliseconds: reads that come so soon after a first one share its line. */
const TOGETHER = 10;
/** Bytes of each line's text that are kept to be shown: more than fit. */
const BEGINNING = 100;
/** Half-close stays half-close, and small messages do not wait. */
const AS_IT_IS = { allowHalfOpen: true, noDelay: true };

/** Reads the command line. */
function parse() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", short: "p", default: "7000" },
      hostname: { type: "string", default: "127.0.0.1" },
      to: { type: "string", default: "6789" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    Deno.exit(0);
  }
  const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
  if (hostname === "") throw new Error("--hostname must not be empty");
  const port = wholeNumber("--port", values.port, 0, 65535);
  // PORT, HOST:PORT or [IPV6]:PORT.
  const [, host, toPort] = values.to.match(/^(?:\[?(.*?)\]?:)?([^:]*)$/s)!;
  const to = {
    hostname: host || "127.0.0.1",
    port: wholeNumber("--to", toPort!, 1, 65535),
  };
  return { hostname, port, to };
}

/** Listens, and watches each client that comes. */
async function main(
  { hostname, port, to }: ReturnType<typeof parse>,
): Promise<void> {
  const listener = createServer(AS_IT_IS, (client) => new Session(client, to));
  listener.on("error", (error) => {
    const where = format({ hostname, port });
    fail("watch", `cannot listen on ${where}: ${messageOf(error)}`);
  });
  listener.listen(port, hostname, () => {
    const { address, port } = listener.address() as AddressInfo;
    print(`listening on ${format({ hostname: address, port })}`);
    print(`watching ${format(to)}`);
    print(`give your client port ${port} instead`);
  });
  // A promise resolves once; `deno task` passes Ctrl-C on a second time.
  const stopped = Promise.withResolvers<void>();
  Deno.addSignalListener("SIGINT", stopped.resolve);
  await stopped.promise;
  setTimeout(() => Deno.exit(0), 500); // if nobody reads the picture
  const connections = counted(totals.connections, "connection");
  await picture.write(`${connections}, ${counted(totals.bytes, "byte")}`);
  Deno.exit(0);
}

/** What Ctrl-C tells. */
const totals = { connections: 0, bytes: 0 };

// ------------------------------------------------------------- one connection

/** Those whose client is still connected, the first one first. */
const sessions = new Set<Session>();

/** A client's connection, and the one to the server that belongs to it. */
class Session {
  readonly #number = ++totals.connections;
  readonly #client: Socket;
  readonly #server: Socket;
  /** Reads in a row from one side, which become one line. */
  #reads?: { side: Socket; at: number; bytes: number; beginning: Buffer };
  /** Who was the last to send bytes, or to close. */
  #lastToSend?: Socket;
  #silence?: ReturnType<typeof setTimeout>;

  constructor(client: Socket, to: Address) {
    const server = connect({ ...AS_IT_IS, host: to.hostname, port: to.port });
    this.#client = client;
    this.#server = server;
    print("");
    sessions.add(this);
    client.on("close", () => sessions.delete(this));
    client.on("error", () => this.#reset(client, server));
    once(server, "connect").then(
      () => this.#connected(to.port),
      (error) => this.#unreachable(to.port, error),
    );
    this.#moved();
  }

  /** Passes everything on both ways, with its end and with backpressure. */
  #connected(port: number): void {
    const [client, server] = [this.#client, this.#server];
    const left = `client port ${client.remotePort}`.padEnd(34);
    print(`${this.#stamp()}${left}passive open: server port ${port}`);
    this.#draw(client, "connect()", "active open", "accept()");
    server.on("error", () => this.#reset(server, client));
    for (const [side, other] of [[client, server], [server, client]] as const) {
      side.on("data", (chunk: Uint8Array) => this.#read(side, chunk));
      side.on("end", () => this.#end(side, other));
      side.pipe(other);
    }
  }

  #unreachable(port: number, error: Error & { code?: string }): void {
    this.#draw(this.#client, "connect()", "X");
    const why = error.code === "ECONNREFUSED"
      ? `nothing listens on port ${port}: start the server first`
      : `the server cannot be reached: ${error.code}`;
    print(this.#stamp() + why);
    this.#client.destroy();
  }

  /** Bytes came: they are drawn together with those that follow at once. */
  #read(side: Socket, chunk: Uint8Array): void {
    totals.bytes += chunk.length;
    this.#lastToSend = side;
    if (this.#reads?.side !== side) {
      this.#drawReads();
      const [at, beginning] = [performance.now(), Buffer.alloc(0)];
      this.#reads = { side, at, bytes: 0, beginning };
      setTimeout(() => this.#drawReads(), TOGETHER);
    }
    const reads = this.#reads;
    reads.bytes += chunk.length;
    const more = chunk.subarray(0, BEGINNING - reads.beginning.length);
    reads.beginning = Buffer.concat([reads.beginning, more]);
  }

  #drawReads(): void {
    if (!this.#reads) return;
    const { side, at, bytes, beginning } = this.#reads;
    this.#reads = undefined;
    const text = quoted(beginning, bytes);
    this.#draw(side, text, counted(bytes, "byte"), "", at);
  }

  #end(side: Socket, other: Socket): void {
    this.#lastToSend = side;
    const text = side === this.#client ? "sends no more" : "close()";
    this.#draw(side, text, other.readableEnded ? "FIN" : "FIN: active close");
  }

  /** One side has reset its connection: so is the other one's. */
  #reset(side: Socket, other: Socket): void {
    this.#draw(side, "reset", "RST");
    const why = "broke off: it died, or closed with bytes unread";
    print(`${this.#stamp()}the ${this.#name(side)} ${why}`);
    other.resetAndDestroy();
  }

  /** Something has moved: a silence begins here at the earliest. */
  #moved(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      const why = this.#whoWaits();
      if (why) print(`${this.#stamp()}silence: ${why}`);
    }, SILENCE);
  }

  /** What holds the connection, out of what was seen. */
  #whoWaits(): string | undefined {
    const [client, server] = [this.#client, this.#server];
    if (client.destroyed) return undefined; // it is over
    if (server.connecting) return "the server's machine does not answer";
    const deaf = [client, server].find((side) => side.writableNeedDrain);
    if (deaf) return `the ${this.#name(deaf)} does not read; bytes wait here`;
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
    const [other] = [...sessions].filter((one) => one !== this);
    return other
      ? `the server does not answer; is it busy with #${other.#number}?`
      : "the server does not answer; the client has sent no FIN";
  }

  #name(side: Socket): string {
    return side === this.#client ? "client" : "server";
  }

  // -------------------------------------------------------------- the picture

  /** One event: `text` on the side that did it, an arrow to the other one. */
  #draw(
    side: Socket,
    text: string,
    label: string,
    effect = "",
    at?: number,
  ): void {
    this.#drawReads();
    const stamp = this.#stamp(at);
    const dashes = COLUMNS - stamp.length - 2 * TEXT - 3; // and the arrow's head
    const shaft = ` ${label} `.padStart((dashes + label.length) / 2 + 1, "-")
      .padEnd(dashes, "-");
    const spaces = " ".repeat(TEXT - columns(text));
    const [line, colour] = side === this.#client
      ? [`${text}${spaces} ${shaft}> ${effect}`.trimEnd(), CYAN]
      : [`${" ".repeat(TEXT)} <${shaft} ${text}`, YELLOW];
    print(stamp + (COLOURS ? `${colour}${line}\x1b[0m` : line));
    this.#moved();
  }

  /** The client's number, and the seconds since this program began. */
  #stamp(at = performance.now()): string {
    const seconds = (at / 1000).toFixed(3);
    return `#${this.#number} `.padEnd(5) + `${seconds} `.padStart(8);
  }
}

const COLUMNS = 80;
/** Columns of the text on each side. */
const TEXT = 19;
/** What begins the colour of the client's lines, and of the server's. */
const [CYAN, YELLOW] = ["\x1b[36m", "\x1b[33m"];
const COLOURS = Deno.stdout.isTerminal() && !Deno.noColor;

function counted(count: number, unit: string): string {
  return `${number(count)} ${unit}${count === 1 ? "" : "s"}`;
}

/** The columns that a text takes on a terminal: 😀 and 世 two, an accent none. */
function columns(text: string): number {
  return text.replace(/\p{M}/gu, "")
    .replace(/[\u2e80-\u{10ffff}\p{Emoji_Presentation}]/gu, "..").length;
}

/** The beginning of what was sent, as it is written in a program, cut to fit. */
function quoted(bytes: Buffer, total: number): string {
  const cut = bytes.length < total; // perhaps within a character
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const text = decoder.decode(bytes, { stream: cut });
  const isText = !text.includes("\ufffd");
  const characters = [...(isText ? text : bytes.toString("latin1"))];
  const escaped = () =>
    JSON.stringify(characters.join("")).replace(
      isText ? /\p{C}/gu : /[^ -~]/g,
      (hidden) => `\\x${hidden.codePointAt(0)!.toString(16)}`,
    );
  if (!cut && columns(escaped()) <= TEXT) return escaped();
  while (columns(escaped()) > TEXT - 3) characters.pop();
  return `${escaped()}...`;
}

// -------------------------------------------------------------------- the log

/** Standard output; it waits for its reader, and nobody else does. */
const picture = new WritableStream<string>({
  async write(line) {
    // It fails if the reader has gone. The sessions go on.
    await Deno.stdout.write(new TextEncoder().encode(`${line}\n`))
      .catch(() => {});
  },
}, { highWaterMark: 1000 }).getWriter();

/** Lines that found no room there, and that it does not tell of yet. */
let lost = 0;

function print(line: string): void {
  if (picture.desiredSize! <= 0) {
    lost += 1;
    return;
  }
  if (lost > 0) picture.write(`${counted(lost, "line")} lost`);
  lost = 0;
  picture.write(line);
}

if (import.meta.main) await main(readOptions("watch", parse));
