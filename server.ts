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
 * sent. What is left out: encryption, passwords, and more than one thread.
 *
 * @module
 */

import { isAscii } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises"; // milliseconds
import { parseArgs } from "node:util";

const encoder = new TextEncoder(); // to UTF-8
const decoder = new TextDecoder(); // from UTF-8

/**
 * Runs the service until Ctrl-C or SIGTERM. The last line of this file calls it:
 * then all constants and variables below have their values.
 */
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
  // The last lines of the log get a second, because perhaps nobody reads them.
  await Promise.race([logLines.close(), pause(1000)]);
  Deno.exit(0); // the clock of watchQuietClients() would keep the process alive
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

/** The length of a client's two buffers, at first and at most: bytes. */
const SMALL_BUFFER = 1024; // most lines are shorter
const LARGE_BUFFER = 128 * 1024; // longer ones are no faster
/** A new large buffer gets this, divided by the number of clients, at most: bytes. */
const SHARED_MEMORY = 32 * 1024 * 1024; // a choice

/** What the client sends, until it closes its sending side. */
function bytesFrom(client: Client): ReadableStream<Uint8Array> {
  // Two buffers take turns, because the reply is written over its buffer. While one
  // reply is sent, the next bytes are read into the other buffer.
  let buffer = new Uint8Array(SMALL_BUFFER);
  let other = new Uint8Array(SMALL_BUFFER);
  let size = SMALL_BUFFER; // what the length of both should be
  return new ReadableStream({
    async pull(controller) { // the pipe wants a chunk
      if (buffer.length < size) buffer = new Uint8Array(size);
      const count = await client.connectionSocket.read(buffer);
      if (count === null) return controller.close(); // half-close
      client.received += count;
      controller.enqueue(buffer.subarray(0, count));

      const isFull = count === buffer.length;
      [buffer, other] = [other, buffer];
      if (!isFull) return; // all that has come is read
      size = Math.min(LARGE_BUFFER, Math.floor(SHARED_MEMORY / clients.size));
      // The next pull() comes when this promise ends.
      if (count > SMALL_BUFFER) return othersTurn();
    },
  }, { highWaterMark: 0 }); // else it would read over a buffer that is in use
}

// ----------------------------------------------------------- the text's stream
// Without this, the pipe would decode the bytes, call toUpperCase() and encode the
// text again. That is slower, and replaces bytes that are not UTF-8.
//
// In UTF-8 a byte below 0x80 is a character by itself (ASCII). A longer character
// begins with a byte of 0xc0 or more, and its other bytes are from 0x80 to 0xbf.
//
// The text is read in pairs of bytes, and a table has the reply to each pair: "ab"
// becomes "AB", and "è" (0xc3 0xa8) becomes "È". A pair without an uppercase is its
// own reply. (toUpperCase() looks at no neighbours, so the text may be cut into
// characters.) Two kinds of pairs are not in the table:
//
// - The second byte begins a character. Then only the first byte is taken, and the
//   next pair begins with the second byte.
// - The pair begins a character of three or four bytes that may have an uppercase, or
//   is one whose uppercase has another length ("ı" and "I"). A map has these replies.

/**
 * Uppercases UTF-8 text, exactly as `toUpperCase()` does, wherever the text is
 * cut into chunks. Bytes that are not UTF-8 come out as they went in.
 *
 * A reply that fits is written over its chunk. Copy the chunk before if you need it
 * later, for example in the other branch of a `tee()`.
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
    // TCP cuts anywhere: the first bytes of a character wait here for its rest.
    let waiting = new Uint8Array(0);
    super({
      transform(chunk, controller) { // called for each chunk
        if (waiting.length === 0 && isAscii(chunk)) {
          // For ASCII alone, Deno's own functions are the quickest way.
          encoder.encodeInto(decoder.decode(chunk).toUpperCase(), chunk);
          controller.enqueue(chunk);
          return;
        }
        // Our chunks are one block. Another source may have larger ones.
        for (let start = 0; start < chunk.length; start += LARGE_BUFFER) {
          const block = chunk.subarray(start, start + LARGE_BUFFER);
          input.set(waiting);
          input.set(block, waiting.length);
          const length = waiting.length + block.length;
          const { taken, made } = uppercase(length);
          waiting = input.slice(taken, length); // a copy, because the input is shared
          // To get new memory takes time: only a reply that does not fit gets it.
          const reply = made <= block.length ? block : new Uint8Array(made);
          reply.set(output.subarray(0, made));
          controller.enqueue(reply.subarray(0, made));
        }
      },
      flush(controller) { // called once, at the end
        controller.enqueue(waiting);
      },
    });
  }
}

// All streams share this memory: transform() has no await, so only one stream uses it
// at a time. There is room for 3 bytes that waited, and for 4 bytes behind the text.
// No reply has more than three times the bytes: "ΐ" has 2, and its uppercase 6.
const input = new Uint8Array(LARGE_BUFFER + 7);
const output = new Uint8Array(3 * input.length);
// A DataView reads and writes several bytes as one number, wherever they begin.
const inputView = new DataView(input.buffer);
const outputView = new DataView(output.buffer);

/** The table. Pairs and replies are numbers: "ab" is 0x6162. */
const pairReplies = new Uint16Array(0x10000);
/** Stands in the table for "no reply". (It is "aa": a reply has no small letters.) */
const NOT_IN_TABLE = 0x6161;
/** The map, from all bytes of a character, as one number, to the reply. */
const characterReplies = new Map<number, Uint8Array>();
fillTableAndMap();

function fillTableAndMap(): void {
  for (let pair = 0; pair < pairReplies.length; pair++) {
    const reply = upperByte(pair >> 8) << 8 | upperByte(pair & 0xff);
    pairReplies[pair] = (pair & 0xff) < 0xc0 ? reply : NOT_IN_TABLE;
  }
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
    pairReplies[pair] = isPair ? numberOf(reply) : NOT_IN_TABLE;
    if (!isPair) characterReplies.set(numberOf(bytes), reply);
  }
}

/** The uppercase of ASCII: "a" is 0x61, and "A" is 0x41. Other bytes stay. */
function upperByte(byte: number): number {
  return byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
}

/**
 * Uppercases the first `length` bytes of the input into the output. Tells how many
 * bytes it has taken and made: a character at the end that is not whole is not taken.
 */
function uppercase(length: number): { taken: number; made: number } {
  // Four bytes that begin a character follow the text, as four are read at once. So no
  // pair in the table, and no character in the map, goes beyond the end of the text.
  input.fill(0xc0, length, length + 4);
  // A byte at the end that begins a character waits for the rest of it.
  const end = input[length - 1] < 0xc0 ? length : length - 1;
  let taken = 0;
  let made = 0;
  while (true) {
    const count = uppercasePairs(taken, made);
    taken += count;
    made += count;
    if (taken >= end) break;

    const pair = inputView.getUint16(taken); // it is not in the table
    if ((pair & 0xff) >= 0xc0) { // its second byte begins a character
      output[made] = upperByte(pair >> 8);
      taken += 1;
      made += 1;
      continue;
    }
    // A first byte of 0xe0 or more begins three bytes, and one of 0xf0 or more four.
    const size = pair < 0xe000 ? 2 : pair < 0xf000 ? 3 : 4;
    // The text ends within the character, which waits. (If the last byte is ASCII,
    // these bytes are no character, and do not wait: 0xf0 0x90 "a", for example.)
    if (taken + size > length && input[length - 1] >= 0x80) break;
    // Four bytes, and the shift drops those that are behind the character.
    const character = inputView.getUint32(taken) >>> 8 * (4 - size);
    const reply = characterReplies.get(character);
    if (reply === undefined) {
      // It has no uppercase, or is not UTF-8: these two bytes stay as they are.
      outputView.setUint16(made, pair);
      taken += 2;
      made += 2;
    } else {
      for (const byte of reply) output[made++] = byte; // few: quicker than set()
      taken += size;
    }
  }
  return { taken, made };
}

/**
 * Uppercases pairs until one is not in the table, and tells how many bytes it has
 * taken and made. Two pairs at a time take less time than one after the other.
 */
function uppercasePairs(from: number, to: number): number {
  const start = from;
  while (true) {
    const two = inputView.getInt32(from); // signed numbers are quicker here
    const first = pairReplies[two >>> 16];
    const second = pairReplies[two & 0xffff];
    if (first === NOT_IN_TABLE) return from - start;
    outputView.setInt32(to, first << 16 | second);
    if (second === NOT_IN_TABLE) return from + 2 - start; // others overwrite "aa"
    from += 4;
    to += 4;
  }
}

// ------------------------------------------------------------ who is connected
// Without this, nothing is known of a client: no log, no limit, no orderly stop.

const clients = new Set<Client>();

/** A client: its connection socket, and what the clock and the log need. */
class Client {
  /** Bytes that came, and bytes of replies that went. */
  received = 0;
  sent = 0;
  /** Seconds since the last byte of a reply went. (What comes has its reply at once.) */
  quiet = 0;
  /** A write() has not ended yet. Perhaps it waits until the client reads. */
  writing = false;
  readonly address: string;
  /** When it came: milliseconds of performance.now(). */
  readonly connectedAt = performance.now();

  constructor(readonly connectionSocket: Deno.TcpConn) {
    this.address = format(connectionSocket.remoteAddr);
    clients.add(this);
    log(`${this.address} connected, ${clients.size} open`);
  }

  /**
   * Sends a reply. If the client does not read, the system's buffers fill up and
   * write() waits. Then the server reads one more chunk from this client, into the
   * other buffer, and nothing after that: backpressure.
   */
  async write(reply: Uint8Array): Promise<void> {
    this.writing = true;
    for (let written = 0; written < reply.length;) {
      // write() may take only a part of the bytes. It seldom does, and subarray()
      // takes time.
      const remaining = written === 0 ? reply : reply.subarray(written);
      const count = await this.connectionSocket.write(remaining);
      written += count;
      this.sent += count;
      this.quiet = 0;
      activity += 1;
    }
    this.writing = false;
  }

  /** Closes the connection; `why` is for the log, when something went wrong. */
  close(why?: string): void {
    if (!clients.delete(this)) return; // it is closed already
    this.connectionSocket.close(); // what still waits for this socket fails now
    const seconds = ((performance.now() - this.connectedAt) / 1000).toFixed(1);
    const line = `${this.address} closed, ${this.received} bytes in, ` +
      `${this.sent} bytes out, ${seconds} s`;
    log(why === undefined ? line : `${line}: ${why}`);
  }
}

async function acceptFailed(error: unknown): Promise<void> {
  if (stopping) return; // the welcome socket is closed
  // A client has reset its connection before accept(). (Systems differ in the error.)
  if (error instanceof Deno.errors.NotConnected) return; // Linux
  if (error instanceof Deno.errors.ConnectionAborted) return;
  if (error instanceof Deno.errors.ConnectionReset) return;
  // Probably no descriptor for a socket is left (EMFILE), and a client has to leave.
  log(`cannot accept: ${(error as Error).message}`);
  await pause(1000); // a choice: the log gets one such line a second
}

// ------------------------------------------------------------- whose turn it is
// Without this, a few clients that flood keep all others waiting for seconds. A
// read that finds bytes, and a write that finds room, end at once. While Deno has
// such work, it polls its sockets only at every 61st turn of its loop
// (`event_interval` in tokio, the library below Deno).
//
// Only a client that has filled a large buffer has to rest. The others soon have read
// all their bytes, and then their next read() waits for the system.

/** Counts how often bytes of replies have gone, of all clients together. */
let activity = 0;
/** When busy clients have to rest: milliseconds of performance.now(). */
let turnEnds = 0;
/** This rest, while there is one. */
let rest: Promise<void> | undefined;

/** What a client that has filled a large buffer waits for before it reads again. */
function othersTurn(): Promise<void> | undefined {
  if (performance.now() < turnEnds) return;
  rest ??= untilCalm(); // all busy clients rest together
  return rest;
}

/**
 * Waits for two pauses in a row in which nothing moves. One is not enough: Deno
 * serves 128 sockets at a time, and a pause may be over before the next 128. After
 * 50 pauses (a choice) the rest ends, even if new clients still move bytes.
 */
async function untilCalm(): Promise<void> {
  for (let pauses = 0, calm = 0; pauses < 50 && calm < 2; pauses++) {
    const before = activity;
    await pause(1); // the shortest
    calm = activity === before ? calm + 1 : 0;
  }
  rest = undefined;
  turnEnds = performance.now() + 100; // a choice: others wait about as long
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
 * is empty, on Linux up to 1.4 MB. So --help asks for 2 MB in each idle timeout.
 */
function watchQuietClients(idleTimeout: number): void {
  const tick = 0.25; // seconds, a choice
  const idle = idleTimeout || Infinity; // 0 is never
  setInterval(() => {
    // close() deletes a client from this Set: the loop goes on with the next one.
    for (const client of clients) {
      client.quiet += tick;
      if (client.quiet > idle) client.close(`idle for ${idle} s`);
      // 2.5 s: TCP needs time to notice that a packet is lost, and to send it again. A
      // client that is being written to still gets its reply: perhaps it reads slowly.
      if (stopping && client.quiet > 2.5 && !client.writing) {
        client.close("the server is stopping");
      }
    }
  }, 1000 * tick);
}

/** The first signal lets transfers in progress end, the second ends all at once. */
function stopOnSignal(welcomeSocket: Deno.TcpListener): void {
  let stoppedAt = 0; // milliseconds
  const onSignal = () => {
    if (stopping) {
      // After Ctrl-C `deno task` or npx sends the signal again, at once. Within
      // 100 ms it is no second one: no person is so quick.
      // (130 is what a shell says of a program that Ctrl-C has ended.)
      if (performance.now() - stoppedAt > 100) Deno.exit(130);
      return;
    }
    stopping = true;
    stoppedAt = performance.now();
    welcomeSocket.close(); // and accept() fails
    log(`stopping, ${clients.size} open; Ctrl-C again stops at once`);
    for (const client of clients) client.quiet = 0; // the 2.5 s begin now
    // Ten seconds, a choice, for clients on which bytes still move.
    setTimeout(() => {
      for (const client of clients) client.close("the server stopped");
    }, 10_000);
  };
  Deno.addSignalListener("SIGINT", onSignal); // Ctrl-C
  // Windows has no SIGTERM.
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", onSignal);
}

// --------------------------------------------------------------------- the log
// Without this, a log that nobody reads stops the server: console.log() waits for
// the log's reader, and all clients wait too.

/** Lines for which there was no room, or whose write has failed, since the last line. */
let lostLines = 0;
/** A queue with room for 1000 lines, which are written one after the other. */
const logLines = new WritableStream<string>({
  async write(line) {
    const lost = lostLines;
    lostLines = 0;
    const text = lost > 0 ? `${lost} lines lost\n${line}\n` : `${line}\n`;
    // A pipe takes a text as short as this one whole, or refuses it.
    const writing = Deno.stdout.write(encoder.encode(text));
    await writing.catch(() => lostLines += lost + 1); // this line, and its count
  },
}, { highWaterMark: 1000 }).getWriter();

function log(line: string): void {
  // desiredSize is how much room is left. (It is null only after an error.)
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
                          reader must read 2 MB in that time
  -h, --help              show this

Ctrl-C stops it when transfers are done, or after 10 s; a second one at once.`;

interface Options {
  hostname: string;
  port: number;
  maxConnections: number;
  idleTimeout: number; // seconds
}

/** Reads the options, or ends the process: code 0 after help, 2 after a mistake. */
function readOptions(args: string[]): Options {
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
      // Number() alone takes "", "1e3" and "0x10" too. (NaN is in no range.)
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

// Not if another program imports this file.
if (import.meta.main) await main(readOptions(Deno.args));
