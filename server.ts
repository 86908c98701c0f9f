// SPDX-License-Identifier: 0BSD

/**
 * A TCP server that sends text back in uppercase, to many clients at once.
 * `client.ts` is its other half.
 *
 *     deno run --allow-net server.ts     # terminal 1
 *     deno run --allow-net client.ts     # terminal 2: type a line, press Enter
 *
 * One welcome socket waits for all clients. For each client that connects,
 * accept() gives a new connection socket. From then on its bytes flow
 *
 *     connectionSocket -> UppercaseStream -> connectionSocket
 *
 * until the client closes its sending side (half-close) and the whole reply is
 * sent. What is left out: encryption, passwords, the PROXY protocol, and more
 * than one thread.
 *
 * @module
 */

import { setTimeout as pause } from "node:timers/promises"; // milliseconds
import { parseArgs } from "node:util";

/** Runs the service until Ctrl-C or SIGTERM. */
async function main(options: Options): Promise<void> {
  const welcomeSocket = listen(options); // passive open
  log(`listening on ${format(welcomeSocket.addr)}`);
  stopOnSignal(welcomeSocket);
  watchQuietClients(options.idleTimeout);

  while (!stopping) {
    try {
      const connectionSocket = await welcomeSocket.accept();
      serve(connectionSocket); // not awaited: no client waits for another
    } catch (error) {
      await acceptFailed(error);
    }
    // More clients wait in the system's queue.
    while (clients.size >= options.maxConnections) await pause(10);
  }
  while (clients.size > 0) await pause(10);
  await Promise.race([logLines.close(), pause(1000)]); // perhaps nobody reads the log
  Deno.exit(0);
}

/** Serves one client, from its first byte to the last byte of its reply. */
async function serve(connectionSocket: Deno.TcpConn): Promise<void> {
  const client = new Client(connectionSocket);
  try {
    connectionSocket.setNoDelay(); // no small reply waits for an ACK (Nagle)
    const replies = bytesFrom(client).pipeThrough(new UppercaseStream());
    for await (const reply of replies) await client.write(reply);
    client.close();
  } catch (error) {
    client.close((error as Error).message); // a reset, for example
  }
}

// ------------------------------------------------------ the source of the pipe
// Without this, serve() would use `connectionSocket.readable`. At the end of the
// client's bytes that stream closes the whole connection, and a reply that is still
// on its way is lost: https://github.com/denoland/deno/issues/22258

/** Bytes in a buffer: at first, and at most when a client has filled it. */
const SMALL_BUFFER = 1024;
const LARGE_BUFFER = 256 * 1024;
/** A new buffer gets at most this, divided by the number of clients: bytes. */
const SHARED = 32 * 1024 * 1024;

/** What the client sends, until it closes its sending side. */
function bytesFrom(client: Client): ReadableStream<Uint8Array> {
  // Two buffers take turns, because the reply is written over its buffer. While one
  // reply is sent, the next bytes are read into the other buffer.
  let buffer = new Uint8Array(SMALL_BUFFER);
  let other = new Uint8Array(SMALL_BUFFER);
  let size = SMALL_BUFFER; // what both should have
  return new ReadableStream({
    async pull(controller) { // the pipe wants a chunk
      if (buffer.length < size) buffer = new Uint8Array(size);
      const count = await client.connectionSocket.read(buffer);
      if (count === null) return controller.close(); // half-close
      client.received += count;
      client.moved();
      controller.enqueue(buffer.subarray(0, count));

      [buffer, other] = [other, buffer];
      if (count < other.length) return; // not full: all that has come is read
      size = Math.min(LARGE_BUFFER, Math.floor(SHARED / clients.size));
      return othersTurn(); // no next pull() before this promise ends
    },
  }, { highWaterMark: 0 }); // this stream keeps no chunk of its own
}

// ----------------------------------------------------------- the text's stream
// Without this, the pipe would decode the bytes, call toUpperCase() and encode the
// text again. That is slower, and replaces bytes that are no UTF-8.
//
// In UTF-8 a byte below 0x80 is a character by itself (ASCII). A longer character
// begins with a byte of 0xc0 or more, and its other bytes are from 0x80 to 0xbf.
//
// The text is read in pairs of bytes, and a table has the reply to each pair: "ab"
// becomes "AB", and "è" (0xc3 0xa8) becomes "È". A pair without an uppercase is its
// own reply. If the second byte begins a character, only the first byte is taken,
// and the next pair begins with the second byte. A map has the replies to characters
// that have more than two bytes, or an uppercase of another length ("ı" and "I").

/**
 * Uppercases UTF-8 text, exactly as `toUpperCase()` does, wherever the text is
 * cut into chunks. Bytes that are no UTF-8 come out as they went in.
 * The reply is written over the chunk where it fits.
 *
 * @example
 * ```ts
 * import { UppercaseStream } from "./server.ts";
 *
 * // "è" has two bytes, and TCP may cut between them.
 * const chunks = [Uint8Array.of(0x63, 0xc3), Uint8Array.of(0xa8)];
 * const reply = ReadableStream.from(chunks).pipeThrough(new UppercaseStream());
 *
 * if (await new Response(reply).text() !== "CÈ") throw new Error();
 * ```
 */
export class UppercaseStream extends TransformStream<Uint8Array, Uint8Array> {
  constructor() {
    // TCP cuts anywhere: the bytes of a character that is not whole wait here.
    let begun = new Uint8Array(0);
    super({
      transform(chunk, controller) { // called for each chunk
        for (let start = 0; start < chunk.length; start += LARGE_BUFFER) {
          const block = chunk.subarray(start, start + LARGE_BUFFER);
          input.set(begun);
          input.set(block, begun.length);
          const length = begun.length + block.length;
          const { taken, made } = uppercase(length);
          // Most chunks leave nothing: then no array is made.
          if (begun.length > 0 || taken < length) {
            begun = input.slice(taken, length); // a copy: the input is shared
          }
          // New memory is slow: it is made only for a reply that does not fit.
          const reply = made <= block.length ? block : new Uint8Array(made);
          reply.set(output.subarray(0, made));
          controller.enqueue(reply.subarray(0, made));
        }
      },
      flush(controller) { // called once, at the end
        controller.enqueue(begun);
      },
    });
  }
}

// All streams share this memory: transform() has no await, so only one uses it at
// a time. There is room for 3 bytes that waited, and for 4 bytes behind the text. No
// reply has more than three times the bytes: "ΐ" has 2, and its uppercase 6.
const input = new Uint8Array(LARGE_BUFFER + 7);
const output = new Uint8Array(3 * input.length);
// A DataView reads and writes several bytes as one number, wherever they begin.
const inputView = new DataView(input.buffer);
const outputView = new DataView(output.buffer);

/** The table. Pairs and replies are numbers: "ab" is 0x6162. */
const pairReplies = new Uint16Array(0x10000);
/** In the table: see the map. (It is "aa", and no reply has small letters.) */
const SEE_MAP = 0x6161;
/** The map, from all bytes of a character, as one number, to the reply. */
const characterReplies = new Map<number, Uint8Array>();
fillTableAndMap();

function fillTableAndMap(): void {
  const ascii = (byte: number) =>
    byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte; // "a" is 0x61, "A" 0x41
  for (let pair = 0; pair < pairReplies.length; pair++) {
    pairReplies[pair] = ascii(pair >> 8) << 8 | ascii(pair & 0xff);
  }
  const encoder = new TextEncoder();
  const numberOf = (bytes: Uint8Array) =>
    bytes.reduce((number, byte) => 256 * number + byte, 0);
  for (let point = 0x80; point < 0x20000; point++) { // no uppercase is beyond
    const character = String.fromCodePoint(point);
    const upper = character.toUpperCase();
    if (upper === character) continue;
    const bytes = encoder.encode(character);
    const reply = encoder.encode(upper);
    const isPair = bytes.length === 2 && reply.length === 2;
    const pair = numberOf(bytes.subarray(0, 2));
    pairReplies[pair] = isPair ? numberOf(reply) : SEE_MAP;
    if (!isPair) characterReplies.set(numberOf(bytes), reply);
  }
}

/**
 * Uppercases the first `length` bytes of the input into the output. Tells how many
 * bytes it has taken and made: a character at the end that is not whole is not taken.
 */
function uppercase(length: number): { taken: number; made: number } {
  // Behind the text stand bytes that begin a character. A pair never takes such a
  // byte as its second, and no character in the map has one there.
  input.fill(0xc0, length, length + 4);
  // A byte at the end that begins a character waits for the rest of it.
  const end = input[length - 1] < 0xc0 ? length : length - 1;
  let taken = 0;
  let made = 0;
  while (taken < end) {
    const pair = inputView.getUint16(taken);
    let reply = pairReplies[pair];
    if (reply === SEE_MAP) {
      // From 0xe0 on the first byte begins three bytes, from 0xf0 on four.
      const size = pair < 0xe000 ? 2 : pair < 0xf000 ? 3 : 4;
      // The text ends within the character, which waits. (Bytes that end with ASCII
      // are no character. They do not wait: 0xf0 0x90 "a", for example.)
      if (taken + size > length && input[length - 1] >= 0x80) break;
      const character = inputView.getUint32(taken) >>> 8 * (4 - size);
      const bytes = characterReplies.get(character);
      if (bytes !== undefined) {
        for (let at = 0; at < bytes.length; at++) output[made++] = bytes[at];
        taken += size;
        continue;
      }
      reply = pair; // it has no uppercase, or is no UTF-8
    }
    outputView.setUint16(made, reply);
    const step = (pair & 0xff) < 0xc0 ? 2 : 1;
    taken += step;
    made += step;
    if ((pair & 0x8080) === 0) { // both are ASCII: more may follow
      const count = uppercaseAscii(taken, made);
      taken += count;
      made += count;
    }
  }
  return { taken, made };
}

/**
 * Uppercases ASCII in steps of four bytes, which is three times as fast as pairs.
 * It stops at four bytes that are not all ASCII, and tells how many it has done.
 *
 * Adding 0x1f sets a byte's top bit (0x80) from "a" (0x61) on. Adding 0x05 sets it
 * from "{" (0x7b) on, which follows "z". If the first sum has the top bit and the
 * second has not, the byte is a small letter, and loses its bit 0x20. ASCII is
 * below 0x80, so no sum is above 0xff, and no byte changes its neighbour.
 */
function uppercaseAscii(from: number, to: number): number {
  const start = from;
  // `true` is the order of bytes in the machines that Deno runs on, and so it is fast.
  while ((inputView.getInt32(from, true) & 0x80808080) === 0) {
    const word = inputView.getInt32(from, true);
    const small = (word + 0x1f1f1f1f) & ~(word + 0x05050505) & 0x80808080;
    outputView.setInt32(to, word ^ (small >>> 2), true);
    from += 4;
    to += 4;
  }
  return from - start;
}

// ------------------------------------------------------------ who is connected
// Without this, nothing is known of a client: no log, no limit, no orderly stop.

const clients = new Set<Client>();

/** A client: its connection socket, and what the clock and the log need. */
class Client {
  /** Bytes that came, and bytes of replies that went. */
  received = 0;
  sent = 0;
  /** Seconds since the last of these bytes moved. */
  quiet = 0;
  /** A write() is running. Perhaps it waits until the client reads. */
  writing = false;
  readonly address: string;
  readonly connected = performance.now();

  constructor(readonly connectionSocket: Deno.TcpConn) {
    this.address = format(connectionSocket.remoteAddr);
    clients.add(this);
    log(`${this.address} connected, ${clients.size} open`);
  }

  moved(): void {
    this.quiet = 0;
    moves += 1;
  }

  /**
   * Sends a reply. If the client does not read, the system's buffers fill up and
   * write() waits. Then nothing more is read from this client: backpressure.
   */
  async write(reply: Uint8Array): Promise<void> {
    this.writing = true;
    let rest = reply;
    while (rest.length > 0) { // write() may take only a part
      const count = await this.connectionSocket.write(rest);
      rest = rest.subarray(count);
      this.sent += count;
      this.moved();
    }
    this.writing = false;
  }

  /** Closes the connection; `why` is for the log, when something went wrong. */
  close(why?: string): void {
    if (!clients.delete(this)) return; // it is closed already
    this.connectionSocket.close(); // what still waits for this socket fails now
    const seconds = ((performance.now() - this.connected) / 1000).toFixed(1);
    const line = `${this.address} closed, ${this.received} bytes in, ` +
      `${this.sent} bytes out, ${seconds} s`;
    log(why === undefined ? line : `${line}: ${why}`);
  }
}

async function acceptFailed(error: unknown): Promise<void> {
  if (stopping) return; // the welcome socket is closed
  // A client has reset its connection before it was accepted.
  if (error instanceof Deno.errors.NotConnected) return;
  // Probably no descriptor for a socket is left (EMFILE). A client has to leave.
  log(`cannot accept: ${(error as Error).message}`);
  await pause(1000);
}

// ------------------------------------------------------------- whose turn it is
// Without this, a few clients that flood keep all others waiting for seconds. A
// read that finds bytes, and a write that finds room, end at once. So Deno goes on
// with these clients, and seldom polls the other sockets. (The same in node:http:
// https://github.com/denoland/deno/pull/33860)
//
// Only a client that has filled its buffer has to rest. The others have read all
// their bytes, so their next read() waits for the system.

/** How often bytes have moved, of all clients. */
let moves = 0;
/** The turn that runs now: when it ends, and the rest after it. */
let turn: { ends: number; rest?: Promise<void> } | undefined;

/** What a client that has filled its buffer waits for before it reads again. */
function othersTurn(): Promise<void> | undefined {
  // Busy clients may go on for 100 ms. Then all of them rest. (The timers of a busy
  // runtime are late, so the clock says when a turn is over.)
  turn ??= { ends: performance.now() + 100 };
  if (performance.now() < turn.ends) return;
  turn.rest ??= untilCalm();
  return turn.rest;
}

/**
 * Waits for two pauses in a row in which nothing moves. One is not enough: Deno
 * serves 128 sockets at a time, and a pause may be over before the next 128. After
 * 50 pauses the rest ends, even if new clients still move bytes.
 */
async function untilCalm(): Promise<void> {
  for (let pauses = 0, calm = 0; pauses < 50 && calm < 2; pauses++) {
    const before = moves;
    await pause(1);
    calm = moves === before ? calm + 1 : 0;
  }
  turn = undefined;
}

// --------------------------------------------- who has to go, and how it stops
// Without this, a client that says nothing keeps its place for ever, and Ctrl-C
// cuts replies off in the middle.

/** True from the first Ctrl-C or SIGTERM on. */
let stopping = false;

/**
 * Ends connections on which nothing moves for too long. Time is counted in ticks:
 * while the process is suspended, or too busy to tick, it does not pass. A write()
 * that waits for a slow reader ends only when a third of the system's send buffer
 * is empty, on Linux up to 1.4 MB. So --help asks for 1.5 MB in each idle timeout.
 */
function watchQuietClients(idleTimeout: number): void {
  const tick = 0.25; // seconds
  const idle = idleTimeout || Infinity; // 0 is never
  setInterval(() => {
    for (const client of clients) {
      client.quiet += tick;
      if (client.quiet > idle) client.close(`idle for ${idle} s`);
      // 2.5 s: TCP needs time to notice that a packet is lost, and to send it again.
      if (stopping && client.quiet > 2.5 && !client.writing) {
        client.close("the server is stopping");
      }
    }
  }, 1000 * tick);
}

/** The first signal lets transfers in progress end, the second ends all at once. */
function stopOnSignal(welcomeSocket: Deno.TcpListener): void {
  let firstSignal = Infinity; // when it came: milliseconds
  const onSignal = () => {
    // At Ctrl-C the terminal signals this process, and `deno task` or npx does so
    // again at once. These two signals are one.
    // (130 is what a shell says of a program that Ctrl-C has ended.)
    if (performance.now() - firstSignal > 100) Deno.exit(130);
    if (stopping) return;
    firstSignal = performance.now();
    stopping = true;
    welcomeSocket.close(); // and accept() fails
    log(`stopping, ${clients.size} open; Ctrl-C again stops at once`);
    for (const client of clients) client.quiet = 0;
    setTimeout(() => {
      for (const client of clients) client.close("the server stopped");
    }, 10_000);
  };
  Deno.addSignalListener("SIGINT", onSignal); // Ctrl-C
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", onSignal);
}

// --------------------------------------------------------------------- the log
// Without this, a log that nobody reads stops the server: console.log() waits for
// the log's reader, and all clients wait too.

/** Lines for which there was no room since the last line was written. */
let lostLines = 0;
/** A queue with room for 1000 lines, which are written one after the other. */
const logLines = new WritableStream<string>({
  async write(line) {
    if (lostLines > 0) line = `${lostLines} lines lost\n${line}`;
    lostLines = 0;
    const bytes = new TextEncoder().encode(`${line}\n`);
    // (If the log's reader has gone, or the disk is full, the line is lost.)
    await Deno.stdout.write(bytes).catch(() => {});
  },
}, { highWaterMark: 1000 }).getWriter();

function log(line: string): void {
  if (logLines.desiredSize! > 0) logLines.write(line);
  else lostLines += 1;
}

// ------------------------------------------------------- options and messages
// Without this, the address is fixed, and a mistake ends in a stack trace.

const USAGE = `A TCP server that sends text back in uppercase.

Usage: deno run --allow-net server.ts [options]

  --hostname NAME         address to listen on (default 127.0.0.1);
                          0.0.0.0 or :: opens it to the network
  -p, --port N            port (default 6789); 0 picks a free one
  --max-connections N     clients at a time (default 1000); more wait
  --idle-timeout SECONDS  closes a connection on which nothing moves
                          for so long (default 300; 0 never). A slow
                          reader must read 1.5 MB in that time
  -h, --help              show this

Ctrl-C stops it when transfers are done, or after 10 s; a second one at once.`;

type Options = ReturnType<typeof readOptions>;

/** Reads the options, or ends the process: code 0 after help, 2 after a mistake. */
function readOptions(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        hostname: { type: "string", default: "127.0.0.1" },
        port: { type: "string", short: "p", default: "6789" },
        "max-connections": { type: "string", default: "1000" },
        "idle-timeout": { type: "string", default: "300" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    type Name = "port" | "max-connections" | "idle-timeout";
    const wholeNumber = (name: Name, least: number, most: number) => {
      // Number() alone takes "", "1e3" and "0x10" too.
      const value = /^[0-9]+$/.test(values[name]) ? Number(values[name]) : NaN;
      if (value >= least && value <= most) return value;
      throw new Error(
        `--${name} must be a whole number from ${least} to ${most}, ` +
          `not ${JSON.stringify(values[name])}`,
      );
    };
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    return {
      hostname,
      port: wholeNumber("port", 0, 65535),
      maxConnections: wholeNumber("max-connections", 1, 1_000_000),
      idleTimeout: wholeNumber("idle-timeout", 0, 1_000_000),
    };
  } catch (error) {
    fail(`${(error as Error).message} (--help shows the options)`, 2);
  }
}

function listen(options: Options): Deno.TcpListener {
  try {
    return Deno.listen(options);
  } catch (error) {
    fail(`cannot listen on ${format(options)}: ${(error as Error).message}`);
  }
}

/** Ends the process with one line that says what is wrong. */
function fail(message: string, code = 1): never {
  console.error(`server: ${message.replaceAll(/[\r\n]+/g, " ")}`);
  Deno.exit(code);
}

/** An address as people write it; IPv6 in brackets. */
function format(address: { hostname: string; port: number }): string {
  const { hostname, port } = address;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

if (import.meta.main) await main(readOptions(Deno.args));
