#!/usr/bin/env -S deno run --allow-net
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
 * on its way. What is left out: encryption, passwords, the PROXY protocol, and
 * more than one thread.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** Runs the service until Ctrl-C or SIGTERM. */
async function main(options: Options): Promise<void> {
  const { hostname, port } = options;
  logging.quiet = options.quiet;
  let welcomeSocket: Deno.TcpListener;
  try {
    // Passive open: from here on the system does the three-way handshakes.
    welcomeSocket = Deno.listen({ hostname, port });
  } catch (error) {
    cannotListen(error, format(options)); // ends the process
  }
  print(`listening on ${format(welcomeSocket.addr)}`);
  stopOnSignal(welcomeSocket);
  watchQuietClients(options.idleTimeout);

  while (true) {
    const connectionSocket = await acceptNext(welcomeSocket, options);
    if (connectionSocket === null) break; // the server stops
    serve(connectionSocket); // not awaited: no client waits for another
  }
  await lastTransfers();
}

/** Serves one client, from its first byte to the last byte of its reply. */
async function serve(connectionSocket: Deno.TcpConn): Promise<void> {
  const client = new Client(connectionSocket);
  try {
    connectionSocket.setNoDelay(); // no small reply waits for an ACK (Nagle)
    // Ends when the last reply is written. An error at either end stops the whole
    // pipe, and is thrown here.
    await bytesFrom(client)
      .pipeThrough(new UppercaseStream())
      .pipeTo(bytesTo(client));
    client.close();
  } catch (error) {
    client.close(reason(error));
  }
}

// ---------------------------------------------------- the two ends of the pipe
//
// `connectionSocket.readable` and `.writable` would do this in a line. But at the
// end of the client's bytes `.readable` closes the whole connection, and what
// would be replied then is lost: https://github.com/denoland/deno/issues/22258

/** Bytes in a buffer: few for a quiet client, and more and more for a busy one. */
const SMALLEST_BUFFER = 1024;
const LARGEST_BUFFER = 256 * 1024;
/** A buffer grows only up to this, divided by the number of clients at that time. */
const SHARED = 32 * 1024 * 1024;

/** What the client sends, until it closes its sending side. */
function bytesFrom(client: Client): ReadableStream<Uint8Array> {
  // Two buffers take turns: while the reply to one is being written, the next
  // bytes are read into the other. The pipe holds two chunks at most: one is being
  // written, and one waits in UppercaseStream.
  let buffer = new Uint8Array(SMALLEST_BUFFER);
  let other = new Uint8Array(SMALLEST_BUFFER);
  return new ReadableStream({
    async pull(controller) { // the pipe wants a chunk
      const count = await client.connectionSocket.read(buffer);
      if (count === null) return controller.close(); // half-close
      client.received += count;
      client.moved();
      controller.enqueue(buffer.subarray(0, count));

      // More may have come than a full buffer holds. So the other one, which is
      // next, becomes four times as large.
      const share = Math.floor(SHARED / clients.size);
      const size = Math.min(4 * count, LARGEST_BUFFER, share);
      if (count === buffer.length && other.length < size) {
        other = new Uint8Array(size);
      }
      [buffer, other] = [other, buffer];
      return othersTurn(); // no next pull() before this promise ends
    },
  }, { highWaterMark: 0 }); // no reading ahead
}

/**
 * Writes to the client. If the client does not read, the system's buffers fill up
 * and write() waits. Then the pipe waits and reads nothing more: backpressure.
 */
function bytesTo(client: Client): WritableStream<Uint8Array> {
  return new WritableStream({
    async write(reply) {
      client.replying = true;
      let sent = 0;
      // write() may take only a part. After the goodbye nothing more can be sent.
      while (sent < reply.length && !client.goodbye) {
        const count = await client.connectionSocket.write(reply.subarray(sent));
        sent += count;
        client.sent += count;
        client.moved();
      }
      client.replying = false;
    },
  });
}

// ----------------------------------------------------------- the text's stream
//
// Without this, the pipe would decode the bytes, call toUpperCase() and encode the
// text again. That is slower, and replaces bytes that are no UTF-8.
//
// UTF-8 writes a character with one to four bytes. The first one tells how many:
// 0xxxxxxx (ASCII) is alone, 110xxxxx begins two, 1110xxxx three, 11110xxx four.
// Each later byte is 10xxxxxx. The x are the bits of the code point.

/**
 * Uppercases UTF-8 text, exactly as `toUpperCase()` does, wherever the text is
 * cut into chunks. Bytes that are no UTF-8 come out as they went in.
 *
 * The stream changes the chunks that it is given: the reply is written over the
 * chunk where it fits. So a `tee()` before it shows uppercase in both branches.
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
  /** Makes a stream at the beginning of a text. */
  constructor() {
    // TCP cuts anywhere: the bytes of a character that is not whole wait here.
    let begun = NOTHING;
    super({
      transform(chunk, controller) { // called for each chunk
        for (let start = 0; start < chunk.length; start += BLOCK) {
          const block = chunk.subarray(start, start + BLOCK);
          input.set(begun);
          input.set(block, begun.length);
          const length = begun.length + block.length;
          const end = length - unfinished(length);
          begun = end < length ? input.slice(end, length) : NOTHING; // a copy

          const reply = uppercase(end);
          if (reply.length > block.length) {
            controller.enqueue(reply.slice()); // in memory of its own
          } else {
            block.set(reply); // new memory for each chunk would be slow
            controller.enqueue(block.subarray(0, reply.length));
          }
        }
      },
      flush(controller) { // called once, at the end
        controller.enqueue(begun);
      },
    });
  }
}

const NOTHING = new Uint8Array(0);

/** Longer chunks (the server has none) are uppercased in blocks of so many bytes. */
const BLOCK = LARGEST_BUFFER;
// All streams share this memory: transform() has no await, so only one uses it at
// a time. 16 bytes more have room for 3 that waited, and for 8 behind the end. No
// uppercase has more than three times the bytes: "ΐ" has 2, and then 6.
const input = new Uint8Array(BLOCK + 16);
const output = new Uint8Array(3 * input.length);
// A DataView reads and writes four bytes as one number, wherever they begin. (`true`
// puts the lowest byte first, as the machines do that Deno runs on.)
const inputWords = new DataView(input.buffer);
const outputWords = new DataView(output.buffer);

/** How many bytes at the end of the input may begin a character without its rest. */
function unfinished(length: number): number {
  for (let count = 1; count <= 3 && count <= length; count++) {
    const byte = input[length - count];
    if (byte < 0x80) return 0; // ASCII
    if (byte < 0xc0) continue; // inside a character
    // 0xe0 is 11100000, 0xf0 is 11110000. From 0xf8 on it is no UTF-8.
    const size = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf8 ? 4 : 1;
    return count < size ? count : 0;
  }
  return 0;
}

/** Uppercases the input up to `end`; the reply is valid until the next call. */
function uppercase(end: number): Uint8Array {
  // 0xff is no ASCII and no later byte of a character: no loop goes beyond it.
  input.fill(0xff, end, end + 8);
  let from = 0; // where we are in the input
  let to = 0; // and in the output
  while (from < end) {
    while ((inputWords.getInt32(from, true) & TOP_BITS) === 0) {
      uppercaseWord(from, to);
      from += 4;
      to += 4;
    }
    const byte = input[from];
    if (byte >= 0x80) {
      const point = codePoint(from);
      if (point === NO_UTF8) {
        if (from === end) break; // all was ASCII, and this is the first 0xff
        output[to++] = input[from++];
      } else {
        to += putReply(point, to);
        from += point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
      }
    } else {
      // ASCII that shares its word with another character.
      output[to++] = byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
      from++;
    }
  }
  return output.subarray(0, to);
}

/** The top bits of the four bytes in a word: all 0 when all four are ASCII. */
const TOP_BITS = 0x80808080;

/**
 * Uppercases four bytes of ASCII in one step.
 *
 * Adding 0x1f sets a byte's top bit from "a" (0x61) on. Adding 0x05 sets it from
 * "{" (0x7b) on, which follows "z". If the first sum has the top bit and the second
 * has not, the byte is a small letter, and loses its bit 0x20: "a" is 0x61, and "A"
 * is 0x41. No sum is above 0xff, so no byte changes its neighbour.
 */
function uppercaseWord(from: number, to: number): void {
  const word = inputWords.getInt32(from, true);
  const small = (word + 0x1f1f1f1f) & ~(word + 0x05050505) & TOP_BITS;
  // 0x80 >>> 2 is 0x20, also in a negative number.
  outputWords.setInt32(to, word ^ (small >>> 2), true);
}

/** Instead of a code point. */
const NO_UTF8 = -1;

/**
 * The code point of the character that begins here, which is not ASCII. Each code
 * point has one form alone, the shortest (Unicode 16.0, table 3-7).
 */
function codePoint(from: number): number {
  // `^ 0x80` turns a later byte, 10xxxxxx, into 00xxxxxx, which is less than 0x40.
  // No other byte becomes so small, and `second | third` is so small if both are.
  const first = input[from];
  const second = input[from + 1] ^ 0x80;
  if (first < 0xe0) {
    const point = (first & 0x1f) << 6 | second;
    // 0xc0 and 0xc1 would begin longer forms of ASCII.
    return second < 0x40 && first >= 0xc2 ? point : NO_UTF8;
  }
  const third = input[from + 2] ^ 0x80;
  if (first < 0xf0) {
    const point = (first & 0x0f) << 12 | second << 6 | third;
    const surrogate = point >= 0xd800 && point <= 0xdfff; // no characters
    const valid = (second | third) < 0x40 && point >= 0x800 && !surrogate;
    return valid ? point : NO_UTF8;
  }
  const fourth = input[from + 3] ^ 0x80;
  // 0x0f and not 0x07: a first byte from 0xf8 on gives no point that exists.
  const point = (first & 0x0f) << 18 | second << 12 | third << 6 | fourth;
  const exists = point >= 0x10000 && point <= 0x10ffff;
  return (second | third | fourth) < 0x40 && exists ? point : NO_UTF8;
}

/**
 * The reply to each code point, in eight bytes: the first six hold the reply, and
 * the eighth its length, which is 0 until the code point first comes. (No reply is
 * longer, and none depends on other characters: Unicode 16.0, 3.13.)
 */
const replies = new Int32Array(2 * 0x110000);

/** Writes the reply to a code point into the output; returns its length. */
function putReply(point: number, to: number): number {
  if (replies[2 * point + 1] === 0) learn(point);
  const rest = replies[2 * point + 1]; // the last four bytes, with the length
  // Always eight bytes; the next reply goes over those that are too many.
  outputWords.setInt32(to, replies[2 * point], true);
  outputWords.setInt32(to + 4, rest, true);
  return rest >>> 24; // the eighth byte
}

function learn(point: number): void {
  const reply = new Uint8Array(replies.buffer, 8 * point, 8); // the same memory
  const text = String.fromCodePoint(point).toUpperCase();
  reply[7] = new TextEncoder().encodeInto(text, reply).written;
}

// ------------------------------------------------------------ who is connected
//
// Without this, nothing is known of a client: no log, no limit, no orderly stop.

/** The clients connected now. */
const clients = new Set<Client>();

const service = {
  /** True from the first Ctrl-C or SIGTERM on. */
  stopping: false,
  /** Milliseconds, as watchQuietClients() counts them. */
  clock: 0,
  /** How often bytes have moved, for turnAndRest(). */
  moves: 0,
  /** Settles when a client has left, and at Ctrl-C. */
  change: Promise.withResolvers<void>(),
};

/** Wakes everyone who waits for a change; the next change needs a new promise. */
function tellChange(): void {
  service.change.resolve();
  service.change = Promise.withResolvers();
}

/** A client: its connection socket, and what the clock and the log need. */
class Client {
  /** Bytes that came. */
  received = 0;
  /** Bytes of replies that went. */
  sent = 0;
  /** When the last of these bytes moved, by the service's clock. */
  movedAt = service.clock;
  /** A write() is running. Perhaps it waits until the client reads. */
  replying = false;
  /** Why this side has closed its sending side. */
  goodbye: string | undefined;

  readonly address: string;
  readonly connected = performance.now();

  constructor(readonly connectionSocket: Deno.TcpConn) {
    this.address = format(connectionSocket.remoteAddr);
    clients.add(this);
    log(`${this.address} connected, ${clients.size} open`);
  }

  /** Notes that bytes have moved; after the goodbye they give no more time. */
  moved(): void {
    if (!this.goodbye) this.movedAt = service.clock;
    service.moves += 1;
  }

  /** Closes the connection; `why` is for the log, when something went wrong. */
  close(why?: string): void {
    if (!clients.delete(this)) return; // it is closed already
    // The active close, unless the client's half-close was first. Whatever still
    // waits for this socket fails now.
    this.connectionSocket.close();
    tellChange();
    const seconds = ((performance.now() - this.connected) / 1000).toFixed(1);
    const line = `${this.address} closed, ${this.received} bytes in, ` +
      `${this.sent} bytes out, ${seconds} s`;
    why = this.goodbye ?? why;
    if (why === undefined) log(line);
    else print(`${line}: ${why}`);
  }
}

/** Why a connection failed, in the words of the log. */
function reason(error: unknown): string {
  if (
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.ConnectionAborted || // Windows
    error instanceof Deno.errors.BrokenPipe
  ) return "reset by the client";
  // The system's errors have a code. Any other one is a mistake in this file, and
  // its stack says where.
  if (error instanceof Error && !("code" in error)) return error.stack!;
  return messageOf(error);
}

// ------------------------------------------------------------- who may come in
//
// Without this, one error of accept() ends the server, and too many clients use up
// its memory and its sockets.

/** The next client's socket, or null when the server stops. */
async function acceptNext(
  welcomeSocket: Deno.TcpListener,
  { maxConnections, maxPerAddress }: Options,
): Promise<Deno.TcpConn | null> {
  while (true) {
    while (clients.size >= maxConnections) {
      if (service.stopping) return null;
      printOnce(`${maxConnections} clients connected: more wait for a place`);
      await service.change.promise;
    }
    let connectionSocket: Deno.TcpConn;
    try {
      connectionSocket = await welcomeSocket.accept();
    } catch (error) {
      if (service.stopping) return null;
      // This client has reset its connection before it was accepted.
      if (error instanceof Deno.errors.NotConnected) continue;
      // No descriptor for a socket (EMFILE) or no memory is left. Clients wait in the
      // system's queue, and a later try may work.
      printOnce(`cannot accept, trying again: ${reason(error)}`);
      await pause(100);
      continue;
    }
    if (mayComeIn(connectionSocket, maxPerAddress)) return connectionSocket;
    connectionSocket.close();
  }
}

/** Whether a client's address has fewer connections than it may. */
function mayComeIn({ remoteAddr }: Deno.TcpConn, most: number): boolean {
  if (most === 0) return true; // no limit
  let open = 0;
  for (const { connectionSocket } of clients) {
    if (connectionSocket.remoteAddr.hostname === remoteAddr.hostname) open++;
  }
  if (open < most) return true;
  printOnce(`${most} clients from one address: more are refused`);
  log(`${format(remoteAddr)} refused, ${open} open from its address`);
  return false;
}

// ------------------------------------------------------------- whose turn it is
//
// Without this, a few clients that flood keep all others waiting for seconds. A
// read that finds bytes, and a write that finds room, end at once. So Deno goes on
// with these clients, and seldom looks at the others. (The same in node:http:
// https://github.com/denoland/deno/pull/33860)

/** Milliseconds in which busy clients may go on, before all of them rest. */
const TURN = 100;
/**
 * A rest ends after so many pauses of 1 ms in a row in which nothing moves. One is
 * not enough: Deno serves 128 sockets at a time, and a pause may be over before the
 * next 128.
 */
const CALM = 2;
/** A rest ends after so many pauses, though newcomers still move something. */
const MOST_PAUSES = 50;

let turn: { ends: number; rest: Promise<void> } | undefined;

/** What a client that has just read has to wait for before it reads again. */
function othersTurn(): Promise<void> | undefined {
  const now = performance.now();
  if (!turn) turn = { ends: now + TURN, rest: turnAndRest() };
  // In a busy runtime timers are late. So the clock says when the turn is over.
  return now < turn.ends ? undefined : turn.rest;
}

/**
 * Waits until the turn is over, and then until nothing moves. By then every busy
 * client is waiting here, and all others have had their turn.
 */
async function turnAndRest(): Promise<void> {
  await pause(TURN);
  let calm = 0;
  for (let pauses = 0; pauses < MOST_PAUSES && calm < CALM; pauses++) {
    const before = service.moves;
    await pause(1);
    calm = service.moves === before ? calm + 1 : 0;
  }
  turn = undefined;
}

// --------------------------------------------- who has to go, and how it stops
//
// Without this, a client that says nothing keeps its place for ever, and Ctrl-C
// cuts replies off in the middle.
//
// All times here are in milliseconds.

/** How often the one clock for all clients ticks. */
const TICK = 250;
/**
 * After Ctrl-C, a client that is quiet for so long has to go. (Not sooner: a packet
 * may be lost, and TCP needs time to notice and to send it again.)
 */
const LAST_WORD = 2500;
/** After our goodbye, a client has this time to close its side too. */
const GOODBYE = 750;
/**
 * After Ctrl-C, clients that have connected already may come in for this time. More
 * signals do not count so soon: at Ctrl-C the terminal signals this process, and
 * `deno task` or npx does so again.
 */
const LATECOMERS = 100;
/** After Ctrl-C, transfers may go on for so long. */
const LAST_TRANSFERS = 10_000;

/**
 * Ends connections on which nothing moves for too long. Time is counted in ticks:
 * while the process is suspended, or too busy to tick, it does not pass. A write()
 * that waits for a slow reader ends only when a third of the system's send buffer
 * is empty, on Linux up to 1.4 MB. So --help asks for 1.5 MB in each idle timeout.
 */
function watchQuietClients(idleTimeout: number): void {
  const idle = idleTimeout === 0 ? Infinity : 1000 * idleTimeout;
  setInterval(() => {
    service.clock += TICK;
    for (const client of clients) {
      const quiet = service.clock - client.movedAt;
      if (client.goodbye) {
        if (quiet > GOODBYE) client.close();
      } else if (service.stopping && quiet > LAST_WORD && !client.replying) {
        // (A client that is still being replied to has LAST_TRANSFERS.)
        sayGoodbye(client, "the server is stopping");
      } else if (quiet > idle) {
        sayGoodbye(client, `idle for ${idleTimeout} s`);
      }
    }
  }, TICK);
}

/**
 * Closes only the sending side, unless the client does not read. If there are bytes
 * from the client that were not read, close() would be a reset, and replies on their
 * way would be lost.
 */
function sayGoodbye(client: Client, why: string): void {
  client.goodbye = why;
  client.movedAt = service.clock;
  if (client.replying) client.close(); // the client has stopped reading
  else client.connectionSocket.closeWrite().catch(() => {}); // or it has gone
}

/** The first signal stops the service in order, the second at once. */
function stopOnSignal(welcomeSocket: Deno.TcpListener): void {
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"] // Ctrl-C and Ctrl-Break
    : ["SIGINT", "SIGTERM"];
  const onSignal = (action: () => void) => {
    for (const signal of signals) Deno.addSignalListener(signal, action);
  };
  onSignal(() => {
    if (service.stopping) return;
    service.stopping = true;
    for (const client of clients) client.movedAt = service.clock; // from now on
    tellChange();
    setTimeout(() => {
      welcomeSocket.close();
      onSignal(() => Deno.exit(130)); // the next one; 130: ended by a signal
    }, LATECOMERS);
  });
}

/** Lets transfers in progress end, then the process. */
async function lastTransfers(): Promise<void> {
  if (clients.size > 0) {
    log(`stopping, ${clients.size} open; Ctrl-C again stops at once`);
  }
  setTimeout(() => {
    for (const client of clients) client.close("the server stopped");
  }, LAST_TRANSFERS);
  while (clients.size > 0) await service.change.promise;
  // Waits until the log's last lines are written, but at most a second.
  await Promise.race([logging.lines.close(), pause(1000)]);
  Deno.exit(0);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// --------------------------------------------------------------------- the log
//
// Without this, a log that nobody reads stops the server: console.log() waits for
// the log's reader, and all clients wait too.

const logging = {
  /** The queue: it calls writeLine() for one line after the other. */
  lines: new WritableStream({ write: writeLine }, { highWaterMark: 1000 })
    .getWriter(),
  /** Lines that found no room there. */
  lost: 0,
  /** What has been said, and is said only once. */
  said: new Set<string>(),
  /** --quiet */
  quiet: false,
};

/** Logs a routine event; `--quiet` leaves it out. */
function log(line: string): void {
  if (!logging.quiet) print(line);
}

/** Logs a line the first time only. */
function printOnce(line: string): void {
  if (!logging.said.has(line)) print(line);
  logging.said.add(line);
}

/** Logs what has to be seen. */
function print(line: string): void {
  if (logging.lines.desiredSize! > 0) { // free places in the queue
    logging.lines.write(line);
  } else {
    // One empty line, after those that wait, will say how many were lost.
    if (logging.lost === 0) logging.lines.write("");
    logging.lost += 1;
  }
}

async function writeLine(line: string): Promise<void> {
  if (line === "") {
    line = `${logging.lost} lines lost`;
    logging.lost = 0;
  }
  let bytes = new TextEncoder().encode(`${line}\n`); // write() may take only a part
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(await Deno.stdout.write(bytes));
    } catch {
      // The disk or the pipe is full, or the reader has gone. The line waits, and
      // the service goes on.
      await pause(100);
    }
  }
}

// ------------------------------------------------------- options and messages

const OPTIONS = {
  hostname: { type: "string", default: "127.0.0.1" },
  port: { type: "string", short: "p", default: "6789" },
  "max-connections": { type: "string", default: "1000" },
  "max-per-address": { type: "string", default: "0" },
  "idle-timeout": { type: "string", default: "300" },
  quiet: { type: "boolean", short: "q", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const; // tells parseArgs() which option is a string and which a boolean

const USAGE = `A TCP server that sends text back in uppercase.

Usage: deno run --allow-net server.ts [options]

  --hostname NAME         address to listen on; 0.0.0.0 or :: opens it to
                          the network (default ${OPTIONS.hostname.default})
  -p, --port N            port; 0 picks a free one
                          (default ${OPTIONS.port.default})
  --max-connections N     clients at a time; more wait
                          (default ${OPTIONS["max-connections"].default})
  --max-per-address N     clients at a time from one address; more are
                          refused; 0 is no limit
                          (default ${OPTIONS["max-per-address"].default})
  --idle-timeout SECONDS  closes a connection on which nothing moves for
                          that long; 0 never. Slow readers must read
                          1.5 MB in that time
                          (default ${OPTIONS["idle-timeout"].default})
  -q, --quiet             log only the first line and what went wrong
  -h, --help              show this

Ctrl-C stops it when transfers are done, or after 10 s; a second one at once.

Examples:
  deno run --allow-net server.ts
  deno run --allow-net server.ts --port 7000 --quiet
  deno run --allow-net server.ts --hostname 0.0.0.0 --max-per-address 20`;

type Options = ReturnType<typeof readOptions>;

/** Reads the options, or ends the process: code 0 after help, 2 after a mistake. */
function readOptions(args: string[]) {
  try {
    const { values } = parseArgs({ args, options: OPTIONS });
    if (values.help) showUsage();
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    const wholeNumber = (
      name: "port" | "max-connections" | "max-per-address" | "idle-timeout",
      least: number,
      most: number,
    ) => {
      // Number() alone takes "", "1e3" and "0x10" too.
      const value = /^[0-9]+$/.test(values[name]) ? Number(values[name]) : NaN;
      if (value >= least && value <= most) return value;
      throw new Error(
        `--${name} must be a whole number from ${least} to ${most}, ` +
          `not ${JSON.stringify(values[name])}`,
      );
    };
    return {
      hostname,
      port: wholeNumber("port", 0, 65535),
      maxConnections: wholeNumber("max-connections", 1, 1_000_000),
      maxPerAddress: wholeNumber("max-per-address", 0, 1_000_000),
      idleTimeout: wholeNumber("idle-timeout", 0, 1_000_000),
      quiet: values.quiet,
    };
  } catch (error) {
    fail(`${messageOf(error)} (--help shows the options)`, 2);
  }
}

function showUsage(): never {
  try {
    console.log(USAGE); // fails on a full disk
  } catch (error) {
    fail(`cannot write standard output: ${messageOf(error)}`);
  }
  Deno.exit(0);
}

/** Says why Deno.listen() failed, and what to do about it. */
function cannotListen(error: unknown, address: string): never {
  let why = messageOf(error) +
    "; --hostname must be an address of this machine";
  if (error instanceof Deno.errors.AddrInUse) {
    why = "it is in use; choose another --port, or stop what uses it";
  } else if (error instanceof Deno.errors.PermissionDenied) {
    why = "the system does not permit it; try another --port, above 1023";
  } else if (error instanceof Deno.errors.NotCapable) {
    why = "no permission; run it with deno run --allow-net";
  }
  fail(`cannot listen on ${address}: ${why}`);
}

function fail(message: string, code = 1): never {
  console.error(`server: ${message.replaceAll(/[\r\n]+/g, " ")}`);
  Deno.exit(code);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An address as people write it; IPv6 in brackets. */
function format(
  { hostname, port }: { hostname: string; port: number },
): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

if (import.meta.main) await main(readOptions(Deno.args));
