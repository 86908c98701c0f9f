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
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { readOptions, wholeNumber } from "./parts/options.ts";
import { fail, messageOf } from "./parts/terminal.ts";
import { type Address, format } from "./parts/tcp.ts";

const HELP = `Draws what a client and a server say to each other, and who waits.

usage: deno run --allow-net lib/watch.ts [options]

  -p, --port N           where the client connects to (7000); 0 picks a free one
      --hostname NAME    address to listen on (127.0.0.1)
      --to [HOST:]PORT   where the server listens (6789)
  -h, --help`;

/** Seconds after which a silence is explained. */
const SILENCE = 3;
/** Milliseconds: reads that follow each other faster are drawn as one line. */
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
  if (values.hostname === "") throw new Error("--hostname must not be empty");
  // PORT, HOST:PORT or [IPV6]:PORT; anything else is no port.
  const [, host, port] = values.to.match(/^(?:(\[.+\]|[^:]+):)?([^:]*)$/) ??
    [null, undefined, values.to];
  const unbracketed = (name: string) => name.replace(/^\[(.*)\]$/, "$1");
  return {
    hostname: unbracketed(values.hostname),
    port: wholeNumber("--port", values.port, 0, 65535),
    to: {
      hostname: unbracketed(host ?? "127.0.0.1"),
      port: wholeNumber("--to", port!, 1, 65535),
    },
  };
}

/** Listens, and watches each client that comes. */
function main({ hostname, port, to }: ReturnType<typeof parse>): void {
  // node:net would throw where nobody can catch it.
  const { state } = Deno.permissions.requestSync({ name: "net" });
  if (state !== "granted") {
    fail("watch", "no permission; run it with deno run --allow-net");
  }
  // Nothing is read before the server can have it.
  const options = { ...AS_IT_IS, pauseOnConnect: true };
  const listener = createServer(options, (client) => {
    new Session(client, to);
  });
  listener.on("error", (error) => {
    const where = format({ hostname, port });
    fail("watch", `cannot listen on ${where}: ${messageOf(error)}`);
  });
  listener.listen(port, hostname, () => {
    const { address, port } = listener.address() as AddressInfo;
    print(`listening on ${format({ hostname: address, port })}`);
    print(`watching ${format(to)}; give your client port ${port} instead`);
  });
  let stopping = false;
  Deno.addSignalListener("SIGINT", async () => {
    const { connections, bytes } = totals;
    if (stopping) return; // `deno task` passes Ctrl-C on a second time
    stopping = true;
    print(`${counted(connections, "connection")}, ${counted(bytes, "byte")}`);
    setTimeout(() => Deno.exit(0), 500); // if nobody reads the picture
    await picture.write(""); // all before it is written
    Deno.exit(0);
  });
}

/** What Ctrl-C tells. */
const totals = { connections: 0, bytes: 0 };

// ------------------------------------------------------------- one connection

/** The client or the server, as the other one sees it. */
class Side {
  /** Bytes that came from it. */
  bytes = 0;
  /** The last of them. */
  last = 0;
  /** It has sent its end of input. */
  ended = false;

  constructor(readonly name: "client" | "server", readonly socket: Socket) {}

  /** Bytes that wait here because it does not read. */
  get unread(): number {
    return this.socket.writableNeedDrain ? this.socket.writableLength : 0;
  }
}

/** Reads in a row from one side, which become one line. */
interface Reads {
  side: Side;
  at: number;
  count: number;
  bytes: number;
  beginning: Buffer;
}

/** A client's connection, and the one to the server that belongs to it. */
class Session {
  /** Those that are connected to the server. */
  static readonly open = new Set<Session>();
  readonly #number = ++totals.connections;
  readonly #to: Address;
  readonly #client: Side;
  readonly #server: Side;
  /** Who was the last to send bytes, or to end its input. */
  #lastToSend?: Side;
  #reads?: Reads;
  #together?: ReturnType<typeof setTimeout>;
  #silence?: ReturnType<typeof setTimeout>;

  constructor(client: Socket, to: Address) {
    const { hostname: host, port: toPort } = to;
    const server = connect({ ...AS_IT_IS, host, port: toPort });
    this.#to = to;
    this.#client = new Side("client", client);
    this.#server = new Side("server", server);
    const { remoteAddress: hostname, remotePort: port } = client;
    const left = `client ${format({ hostname: hostname!, port: port! })}`;
    const right = `server ${format(to)}`;
    print("");
    this.#note(`${left} ${right.padStart(COLUMNS - STAMP - left.length - 1)}`);
    client.on("error", () => this.#reset(this.#client, this.#server));
    server.on("error", (error) => {
      if (Session.open.has(this)) this.#reset(this.#server, this.#client);
      else this.#unreachable(error);
    });
    server.on("connect", () => this.#connected());
    client.on("close", () => this.#over());
    server.on("close", () => this.#over());
  }

  /** Passes everything on both ways, with its end and with backpressure. */
  #connected(): void {
    Session.open.add(this);
    this.#draw(this.#client, "connect()", "active open", "accept()");
    for (const side of [this.#client, this.#server]) {
      side.socket.on("data", (chunk: Uint8Array) => this.#read(side, chunk));
      side.socket.on("end", () => this.#end(side));
    }
    this.#client.socket.pipe(this.#server.socket);
    this.#server.socket.pipe(this.#client.socket);
  }

  /** Bytes came: they are drawn when no more follow at once. */
  #read(side: Side, chunk: Uint8Array): void {
    totals.bytes += chunk.length;
    side.bytes += chunk.length;
    side.last = chunk.at(-1)!;
    this.#lastToSend = side;
    const now = performance.now();
    // A flood is drawn once a second.
    if (this.#reads?.side !== side || now - this.#reads.at > 1000) {
      this.#drawReads();
      const beginning = Buffer.alloc(0);
      this.#reads = { side, at: now, count: 0, bytes: 0, beginning };
    }
    const reads = this.#reads;
    reads.count += 1;
    reads.bytes += chunk.length;
    const more = chunk.subarray(0, BEGINNING - reads.beginning.length);
    reads.beginning = Buffer.concat([reads.beginning, more]);
    clearTimeout(this.#together);
    this.#together = setTimeout(() => this.#drawReads(), TOGETHER);
    this.#moved();
  }

  #drawReads(): void {
    if (!this.#reads) return;
    const { side, at, count, bytes, beginning } = this.#reads;
    this.#reads = undefined;
    const label = counted(bytes, "byte");
    const long = count > 1 ? `${counted(count, "read")}, ${label}` : label;
    const fits = long.length <= ARROW - 5;
    const text = quoted(beginning, bytes);
    this.#draw(side, text, fits ? long : label, "", at);
  }

  #end(side: Side): void {
    const first = !this.#client.ended && !this.#server.ended;
    const text = side === this.#client ? "end of input" : "close()";
    side.ended = true;
    this.#lastToSend = side;
    this.#draw(side, text, first ? "FIN: active close" : "FIN");
  }

  /** One side has reset its connection: so is the other one's. */
  #reset(from: Side, to: Side): void {
    this.#draw(from, "reset", "RST");
    this.#note(
      `the ${from.name} broke off: it died, or closed with bytes unread`,
    );
    to.socket.resetAndDestroy();
  }

  #unreachable(error: Error): void {
    const where = format(this.#to);
    this.#draw(this.#client, "connect()", "X");
    this.#note(
      "code" in error && error.code === "ECONNREFUSED"
        ? `nothing listens on ${where}: start the server first`
        : `cannot reach ${where}: ${messageOf(error)}`,
    );
    this.#client.socket.destroy();
  }

  #over(): void {
    const { socket: client } = this.#client;
    const { socket: server } = this.#server;
    if (!client.destroyed || !server.destroyed) return;
    Session.open.delete(this);
    clearTimeout(this.#silence);
  }

  /** Something has moved: a silence begins here at the earliest. */
  #moved(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      const why = this.#whoWaits();
      if (why) this.#note(`${SILENCE} s of silence: ${why}`);
    }, 1000 * SILENCE);
  }

  /** What holds the connection, out of what was seen. */
  #whoWaits(): string | undefined {
    const client = this.#client;
    const server = this.#server;
    if (client.unread && server.unread) {
      return "neither side reads; each waits until the other does";
    }
    for (const side of [client, server]) {
      if (!side.unread) continue;
      const bytes = counted(side.unread, "byte");
      return `the ${side.name} does not read; ${bytes} for it wait here`;
    }
    const answered = server.bytes > 0
      ? `has sent ${counted(server.bytes, "byte")}`
      : "has answered nothing";
    if (client.ended) {
      return `the client has ended its input, and waits; the server ` +
        `${answered} and has not closed (no FIN)`;
    }
    if (server.ended) {
      return this.#lastToSend === client
        ? "the server has closed, and the client goes on sending"
        : "the server has closed, and the client has not ended its input (no FIN)";
    }
    if (!this.#lastToSend) return undefined; // both still think
    if (this.#lastToSend === server) {
      return `the server ${answered}, and waits; the client has ` +
        `neither sent more nor ended its input (no FIN)`;
    }
    return `the client waits; the server has answered nothing since. ` +
      this.#hint();
  }

  /** What the server may be waiting for. */
  #hint(): string {
    const others = [...Session.open].filter((other) => other !== this);
    if (this.#server.bytes === 0 && others.length > 0) {
      return `Is it still busy with #${others[0].#number}?`;
    }
    return this.#client.last === 0x0a
      ? "The client has not ended its input: does the server wait for that?"
      : "The last line has no end (\\n): does the server wait for it?";
  }

  // -------------------------------------------------------------- the picture

  /** One event: `text` on the side that did it, an arrow to the other one. */
  #draw(
    side: Side,
    text: string,
    label: string,
    effect = "",
    at = performance.now(),
  ): void {
    this.#drawReads();
    const client = side === this.#client;
    const middle = ` ${label} `.padStart((ARROW + label.length) / 2, "-")
      .padEnd(ARROW - 1, "-");
    const line = client
      ? `${padded(text, TEXT)} ${middle}> ${effect}`
      : `${" ".repeat(TEXT)} <${middle} ${text}`;
    print(this.#stamp(at) + coloured(line.trimEnd(), client ? CYAN : YELLOW));
    this.#moved();
  }

  /** A sentence about the connection. */
  #note(text: string): void {
    const width = COLUMNS - STAMP;
    const lines = text.match(
      new RegExp(`.{1,${width}}(?= |$)|.{${width}}`, "g"),
    )!;
    lines.forEach((line, index) => {
      const stamp = index === 0 ? this.#stamp(performance.now()) : "";
      print(stamp.padEnd(STAMP) + line.trim());
    });
  }

  #stamp(at: number): string {
    clock ??= at;
    const seconds = ((at - clock) / 1000).toFixed(3).slice(0, 7);
    const number = `#${this.#number}`;
    return `${number}${seconds.padStart(STAMP - 1 - number.length)} `;
  }
}

/** When the first line was drawn. */
let clock: number | undefined;

const COLUMNS = 80;
/** Columns of a line's number and time, of each side's text, and of the arrow. */
const STAMP = 13;
const TEXT = 19;
const ARROW = 27;

function counted(count: number, unit: string): string {
  return `${count.toLocaleString("en-US")} ${unit}${count === 1 ? "" : "s"}`;
}

/** The columns that a text takes on a terminal. */
function width(text: string): number {
  const seen = text.replace(/\p{M}/gu, ""); // accents over the letter before
  return [...seen].length + (seen.match(WIDE)?.length ?? 0);
}

/** Characters of two columns. */
const WIDE =
  /\p{Emoji_Presentation}|\p{sc=Han}|\p{sc=Hira}|\p{sc=Kana}|\p{sc=Hang}|[\u3000-\u303f\uff01-\uff60\uffe0-\uffe6]/gu;

/** A text with spaces up to a width. */
function padded(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - width(text)));
}

/** The beginning of what was sent, as it is written in a program, cut to fit. */
function quoted(bytes: Buffer, total: number): string {
  const pieces = bytes.toString("latin1").match(CHARACTER)!
    .map((piece) => escaped(Buffer.from(piece, "latin1")));
  const whole = `"${pieces.join("")}"`;
  if (total === bytes.length && width(whole) <= TEXT) return whole;
  let text = '"';
  for (const piece of pieces) {
    if (width(text + piece) > TEXT - 4) break;
    text += piece;
  }
  return `${text}"...`;
}

/** The bytes of one character of UTF-8, or a byte that belongs to none. */
const CHARACTER =
  /[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[^]/g;

/** A character as it is, if it can be seen and is one; `\n`, `\xff` if not. */
function escaped(bytes: Buffer): string {
  const character = bytes.toString();
  if (/["\\\n\r\t]/.test(character)) {
    return JSON.stringify(character).slice(1, -1);
  }
  if (/[^\p{C}\ufffd]/u.test(character)) return character;
  return [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
    .join("");
}

// -------------------------------------------------------------------- the log

/** Standard output; it waits for its reader, and nobody else does. */
const picture = new WritableStream<string>({
  async write(line) {
    // It fails if the reader has gone. The sessions go on.
    await Deno.stdout.write(new TextEncoder().encode(line)).catch(() => {});
  },
}, { highWaterMark: 1000 }).getWriter();

/** Lines that found no room there. */
let lost = 0;

/** Prints a line, or counts it if a thousand wait already. */
function print(line: string): void {
  if (picture.desiredSize! <= 0) {
    lost += 1;
    return;
  }
  if (lost > 0) picture.write(`${counted(lost, "line")} lost\n`);
  lost = 0;
  picture.write(`${line}\n`);
}

/** The colours of the client's lines and of the server's, as terminals number them. */
const [CYAN, YELLOW] = [36, 33];
const COLOURS = Deno.stdout.isTerminal() && !Deno.noColor;

function coloured(text: string, colour: number): string {
  return COLOURS ? `\x1b[${colour}m${text}\x1b[0m` : text;
}

if (import.meta.main) main(readOptions("watch", parse));
