// SPDX-License-Identifier: 0BSD

/**
 * A TCP server that sends text back in uppercase, to many clients at once.
 * `client.ts` is its other half.
 *
 *     deno run --allow-net server.ts     # terminal 1
 *     deno run --allow-net client.ts     # terminal 2: type a line, press Enter
 *
 * One welcome socket waits for all clients. For each client that connects,
 * accept() gives a new connection socket, and from then on its bytes flow
 *
 *     connectionSocket -> UppercaseStream -> connectionSocket
 *
 * until the client has sent all it had (half-close) and every byte of the reply
 * is on its way.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** Runs the service until Ctrl-C or SIGTERM. */
async function main(options: Options): Promise<void> {
  const { hostname, port, maxConnections, maxPerAddress } = options;
  quiet = options.quiet;
  // Passive open: from here on the system does the three-way handshakes.
  const welcomeSocket = Deno.listen({ hostname, port });
  stopOnSignal(welcomeSocket);
  watchQuietClients(options.idleTimeout);
  print(`listening on ${format(welcomeSocket.addr)}`);

  while (true) {
    await placeForOneMore(maxConnections);
    const connectionSocket = await acceptNext(welcomeSocket, maxPerAddress);
    if (connectionSocket === null) break; // Ctrl-C
    serve(connectionSocket); // not awaited: no client waits for another
  }
  await lastTransfers();
}

/** Serves one client, from its first byte to the last byte of its reply. */
async function serve(connectionSocket: Deno.TcpConn): Promise<void> {
  const client = new Client(connectionSocket);
  const stream = new UppercaseStream();
  try {
    connectionSocket.setNoDelay(); // Nagle would hold small replies back
    await Promise.all([
      receive(client, stream.writable),
      reply(client, stream.readable),
    ]);
    client.close();
  } catch (error) {
    client.close(reason(error));
  }
}

// ------------------------------------------------- one client's two directions

/** A buffer starts small, for a quiet client, and grows for a busy one. */
const SMALLEST_BUFFER = 1024;
const LARGEST_BUFFER = 256 * 1024;

/**
 * Moves what the client sends into the stream, to the end of its sending side.
 *
 * `connectionSocket.readable` would do this in a line, but it closes the whole
 * connection at the client's end of file, with the reply still on its way:
 * https://github.com/denoland/deno/issues/22258
 */
async function receive(
  client: Client,
  writable: WritableStream<Uint8Array>,
): Promise<void> {
  const writer = writable.getWriter();
  // Two buffers take turns: write() of one ends when reply() has sent what was in
  // the other and asks for more, for a TransformStream queues nothing. Then the
  // other may be filled again.
  let buffer = new Uint8Array(SMALLEST_BUFFER);
  let other = new Uint8Array(SMALLEST_BUFFER);
  while (true) {
    const count = await client.connectionSocket.read(buffer);
    if (count === null) break; // half-close: the client has sent all it had
    client.received += count;
    await writer.write(buffer.subarray(0, count));
    const others = othersTurn();
    if (others !== undefined) await others; // an await costs, even of nothing

    // A full buffer was not all that had come: the next one is larger.
    const wanted = Math.min(4 * count, LARGEST_BUFFER);
    if (count === buffer.length && other.length < wanted) {
      other = new Uint8Array(wanted);
    }
    [buffer, other] = [other, buffer];
  }
  await writer.close(); // the stream's flush(); then reply() ends, and serve()
}

/**
 * Moves what the stream gives back to the client. A client that does not read
 * stops this loop, then the stream, then receive(): backpressure.
 */
async function reply(
  client: Client,
  readable: ReadableStream<Uint8Array>,
): Promise<void> {
  const reader = readable.getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    client.replying = true;
    for (let sent = 0; sent < value.length;) {
      const count = await client.connectionSocket.write(value.subarray(sent));
      client.sent += count;
      sent += count;
    }
    client.replying = false;
  }
}

// ----------------------------------------------------------- the text's stream

/**
 * Uppercases UTF-8 text, exactly as `toUpperCase()` does, wherever the text is
 * cut into chunks. Bytes that are no UTF-8 come out as they went in.
 *
 * The reply is put into the chunk's own memory where it fits: leave a chunk
 * alone until its reply has been read.
 *
 * @example
 * ```ts
 * import { UppercaseStream } from "./server.ts";
 *
 * const reply = ReadableStream.from(["perch", "é no", "? ß"])
 *   .pipeThrough(new TextEncoderStream())
 *   .pipeThrough(new UppercaseStream());
 *
 * if (await new Response(reply).text() !== "PERCHÉ NO? SS") throw new Error();
 * ```
 */
export class UppercaseStream extends TransformStream<Uint8Array, Uint8Array> {
  /** Makes a stream at the beginning of a text. */
  constructor() {
    // TCP cuts anywhere: bytes of a character that is not whole yet wait here,
    // as a copy, for the chunk's memory will be used again.
    let begun: Uint8Array = NOTHING;
    super({
      transform(chunk, controller) {
        let bytes = begun.length > 0 ? concat(begun, chunk) : chunk;
        begun = NOTHING;
        const count = unfinished(bytes);
        if (count > 0) {
          begun = bytes.slice(-count);
          bytes = bytes.subarray(0, -count);
        }
        if (bytes.length > 0) controller.enqueue(uppercase(bytes));
      },
      flush(controller) {
        if (begun.length > 0) controller.enqueue(begun); // cut off by the end
      },
    });
  }
}

const NOTHING = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** How many bytes at the end begin a character that later bytes could finish. */
function unfinished(bytes: Uint8Array): number {
  for (let count = 1; count <= 3 && count <= bytes.length; count++) {
    const byte = bytes[bytes.length - count]!;
    if (byte < 0x80) return 0; // ASCII, a character of one byte
    if (byte < 0xc0) continue; // not the first byte of its character
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    try {
      // A decoder gives nothing as long as it waits for the rest.
      const end = strict.decode(bytes.subarray(-count), { stream: true });
      return end === "" ? count : 0;
    } catch {
      return 0; // no UTF-8, whatever follows
    }
  }
  return 0;
}

// --------------------------------------------------------- who is connected

/** The clients connected now. */
const clients = new Set<Client>();

/** True from the first Ctrl-C on. */
let stopping = false;

/** Wakes main(), if it waits for change(). */
let wake: () => void = () => {};

/** Waits until a client has left, or for Ctrl-C. */
function change(): Promise<void> {
  return new Promise((resolve) => wake = resolve);
}

/** A client: its connection socket, and what the clock and the log need. */
class Client {
  readonly connectionSocket: Deno.TcpConn;
  /** Bytes that came, and bytes of replies that went. */
  received = 0;
  sent = 0;
  /** A reply is waiting until the client reads. */
  replying = false;
  /** Bytes both ways when the clock last looked, and since when no more. */
  moved = 0;
  quietSince: number = performance.now();

  readonly #address: string;
  readonly #connected: number = performance.now();

  constructor(connectionSocket: Deno.TcpConn) {
    this.connectionSocket = connectionSocket;
    this.#address = format(connectionSocket.remoteAddr);
    clients.add(this);
    log(`${this.#address} connected, ${clients.size} open`);
  }

  /** Closes the connection; `why` is for the log, when something went wrong. */
  close(why?: string): void {
    if (!clients.delete(this)) return; // it is closed already
    // The active close, unless the client's half-close was first. Whatever still
    // waits for this socket fails now.
    this.connectionSocket.close();
    wake();
    const seconds = ((performance.now() - this.#connected) / 1000).toFixed(1);
    const line = `${this.#address} closed, ${this.received} bytes in, ` +
      `${this.sent} bytes out, ${seconds} s`;
    if (why === undefined) log(line);
    else print(`${line}: ${why}`);
  }
}

/** The commonest mistakes of who changes this program, and wants the stack. */
function isMistake(error: unknown): error is Error {
  return error instanceof ReferenceError ||
    // With a code it is the system's EINVAL, which is a TypeError in Deno.
    error instanceof TypeError && !("code" in error);
}

/** Why a connection failed, in the words of the log. */
function reason(error: unknown): string {
  if (
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.ConnectionAborted || // Windows
    error instanceof Deno.errors.BrokenPipe
  ) return "reset by the client";
  if (isMistake(error)) return error.stack ?? error.message;
  return error instanceof Error ? error.message : String(error);
}

// ------------------------------------------------------------- who may come in

/** After an accept() that failed for want of something: milliseconds. */
const ACCEPT_PAUSE = 100;

/** The next client's socket, or null once the welcome socket is closed. */
async function acceptNext(
  welcomeSocket: Deno.TcpListener,
  maxPerAddress: number,
): Promise<Deno.TcpConn | null> {
  while (!stopping) {
    try {
      const connectionSocket = await welcomeSocket.accept();
      if (mayComeIn(connectionSocket, maxPerAddress)) return connectionSocket;
      connectionSocket.close();
    } catch (error) {
      // A client that has reset its connection by now is no longer there. It
      // leaves no line in the log, and must not hold up the next one (measured:
      // 300 of them, 0.1 s each).
      if (
        stopping || error instanceof Deno.errors.NotConnected ||
        error instanceof Deno.errors.ConnectionReset ||
        error instanceof Deno.errors.ConnectionAborted ||
        (Deno.build.os === "darwin" && error instanceof TypeError) // EINVAL
      ) continue;
      // No descriptors (EMFILE) or no memory left: clients wait in the
      // system's queue, and the next try may find what this one lacked.
      printOnce(`cannot accept, trying again: ${reason(error)}`);
      await pause(ACCEPT_PAUSE);
    }
  }
  return null;
}

/** Waits, while the limit is reached. */
async function placeForOneMore(maxConnections: number): Promise<void> {
  while (clients.size >= maxConnections && !stopping) {
    printOnce(`${maxConnections} clients connected: more wait for a place`);
    await change();
  }
}

/** Whether a client's address has fewer connections than it may. */
function mayComeIn(
  { remoteAddr }: Deno.TcpConn,
  maxPerAddress: number,
): boolean {
  if (maxPerAddress === 0) return true;
  let open = 0;
  for (const { connectionSocket } of clients) {
    if (connectionSocket.remoteAddr.hostname === remoteAddr.hostname) open += 1;
  }
  if (open < maxPerAddress) return true;
  printOnce(`${maxPerAddress} clients from one address: more are refused`);
  log(`${format(remoteAddr)} refused, ${open} open from its address`);
  return false;
}

// ------------------------------------------------------------- whose turn it is
//
// A read that finds bytes waiting, and a write that finds room, end at once. Some
// clients who are always ready would keep the process from looking at its other
// sockets for seconds (1 to 7, measured with 1 to 50 of them): the runtime asks
// the system for news at every 61st turn unless it has nothing to do. The same in
// node:http: https://github.com/denoland/deno/pull/33860

/** How long busy clients may go on before all of them rest: milliseconds. */
const TURN = 20;
/** How late a timer is, at most, in a process that rests: milliseconds. */
const LATE = Deno.build.os === "windows" ? 20 : 3; // they come every 15.6 ms there
/** How many timers it waits for, on a machine where they are later than that. */
const TRIES = 5;

let turn: { overdue: number; over: Promise<void> } | undefined;

/** What a client has to wait for before it reads on, if others wait. */
function othersTurn(): Promise<void> | undefined {
  const now = performance.now();
  turn ??= { overdue: now + TURN + LATE, over: rest() };
  return now > turn.overdue ? turn.over : undefined;
}

/**
 * Ends when a timer comes in time: nobody was busy then, or all that were have
 * come to wait for this, and the process has looked at its other sockets.
 */
async function rest(): Promise<void> {
  let time = TURN;
  for (let tries = 0; tries < TRIES; tries++) {
    const due = performance.now() + time;
    await pause(time);
    if (performance.now() <= due + LATE) break;
    time = 1;
  }
  turn = undefined;
}

// ------------------------------------------------------------ who has to leave

/** How often the one clock for all clients looks at them: milliseconds. */
const TICK = 250;
/** After Ctrl-C, clients that have been quiet for so long go: milliseconds. */
const LAST_WORD = 500;
/** How long transfers may go on after Ctrl-C: milliseconds. */
const LAST_TRANSFERS = 10_000;

/** Closes connections on which nothing has moved for too long. */
function watchQuietClients(idleTimeout: number): void {
  setInterval(() => {
    const now = performance.now();
    for (const client of clients) {
      const moved = client.received + client.sent;
      if (client.moved !== moved) {
        client.moved = moved;
        client.quietSince = now;
      }
      const quietFor = now - client.quietSince;
      // A reply that waits is a transfer in progress, though its reader pauses.
      if (stopping && quietFor >= LAST_WORD && !client.replying) {
        client.close("the server is stopping");
      } else if (idleTimeout > 0 && quietFor >= 1000 * idleTimeout) {
        client.close(`idle for ${idleTimeout} s`);
      }
    }
  }, TICK);
}

/** Signals that come closer together are one, in milliseconds. */
const ONE_SIGNAL = 100;

/** The first signal stops the service in order, the second at once. */
function stopOnSignal(welcomeSocket: Deno.TcpListener): void {
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"] // Ctrl-C and Ctrl-Break
    : ["SIGINT", "SIGTERM"];
  let stoppedAt = 0;
  for (const signal of signals) {
    Deno.addSignalListener(signal, () => {
      if (stopping) {
        // `deno task` and npx pass on a Ctrl-C that the terminal has sent, too.
        if (performance.now() - stoppedAt > ONE_SIGNAL) Deno.exit(130);
        return;
      }
      stopping = true;
      stoppedAt = performance.now();
      welcomeSocket.close();
      wake();
    });
  }
}

/** Lets transfers in progress end, then the process. */
async function lastTransfers(): Promise<void> {
  if (clients.size > 0) {
    log(`stopping, ${clients.size} open; Ctrl-C again stops at once`);
  }
  const tooLate = pause(LAST_TRANSFERS).then(() => {
    for (const client of clients) client.close("the server stopped");
  });
  while (clients.size > 0) await Promise.race([change(), tooLate]);
  await Promise.race([writing, pause(1000)]);
  Deno.exit(0);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// --------------------------------------------------------------------- the log

/** Characters that wait for a slow reader of the log; lines after them are lost. */
const LOG_BACKLOG = 64 * 1024;

let quiet = false; // --quiet
let backlog = "";
let lost = 0;
let writing: Promise<void> | undefined;
const said = new Set<string>();

/** Logs what happens every day; `--quiet` leaves it out. */
function log(line: string): void {
  if (!quiet) print(line);
}

/** Logs what has to be seen. */
function print(line: string): void {
  if (backlog.length > LOG_BACKLOG) {
    lost += 1;
    return;
  }
  backlog += `${line}\n`;
  writing ??= writeLog();
}

/** Logs what would come again and again. */
function printOnce(line: string): void {
  if (!said.has(line)) print(line);
  said.add(line);
}

/**
 * Not console.log(): that waits until the log's reader has read, and with it
 * every client would wait.
 */
async function writeLog(): Promise<void> {
  try {
    while (backlog !== "") {
      if (lost > 0) backlog += `${lost} lines lost\n`;
      lost = 0;
      const bytes = new TextEncoder().encode(backlog);
      backlog = "";
      for (let at = 0; at < bytes.length;) {
        at += await Deno.stdout.write(bytes.subarray(at));
      }
    }
  } catch {
    // Nobody reads the log, or its disk is full. The service goes on without,
    // and tries again with the next line.
  } finally {
    writing = undefined;
  }
}

// ----------------------------------------------------------- fast uppercase
//
// decode, toUpperCase() and encode are three passes over the text, and slow on
// all but ASCII. Here the bytes stay bytes. Uppercase depends on nothing but
// the character itself (Unicode 16.0, 3.13), so each is looked up by itself.
// The rest of the file uses uppercase() alone.

/** Uppercases whole characters, in the memory of `bytes` if the reply fits. */
function uppercase(bytes: Uint8Array): Uint8Array {
  const ascii = uppercaseAscii(bytes);
  if (ascii === bytes.length) return bytes;

  const rest = uppercaseAny(bytes.subarray(ascii));
  if (ascii + rest.length > bytes.length) {
    return concat(bytes.subarray(0, ascii), rest);
  }
  bytes.set(rest, ascii);
  return bytes.subarray(0, ascii + rest.length);
}

/** The top bits of the four bytes in a word: all 0 when all four are ASCII. */
const TOP_BITS = 0x80808080;

/**
 * Uppercases the ASCII at the front of a word, all four bytes if all are ASCII.
 *
 * Adding 0x1f sets a byte's top bit from "a" (0x61) on, adding 0x05 from "{"
 * (0x7b) on, which follows "z". A byte with the first and not the second is a
 * small letter: it loses its bit 0x20. ASCII is below 0x80, so no sum is above
 * 0xff and none touches the next byte; other bytes may spoil those after them.
 * For "a": 0x61 + 0x1f = 0x80, 0x61 + 0x05 = 0x66; 0x80 >>> 2 is the bit 0x20,
 * and 0x61 ^ 0x20 = 0x41, which is "A".
 */
function uppercaseWord(word: number): number {
  const letters = (word + 0x1f1f1f1f) & ~(word + 0x05050505) & TOP_BITS;
  return word ^ (letters >>> 2);
}

/**
 * Uppercases ASCII in place, up to a word with another byte in it; returns how
 * many bytes. Words lie at every fourth byte of memory, as chunks from a socket
 * do; a chunk that does not is left to uppercaseAny().
 */
function uppercaseAscii(bytes: Uint8Array): number {
  if (bytes.byteOffset % 4 !== 0) return 0;
  const count = bytes.length >> 2;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, count);
  for (let place = 0; place < count; place++) {
    const word = words[place]!;
    if ((word & TOP_BITS) !== 0) return 4 * place;
    words[place] = uppercaseWord(word);
  }
  for (let at = 4 * count; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte >= 0x80) return at;
    if (byte >= 0x61 && byte <= 0x7a) bytes[at] = byte - 0x20;
  }
  return bytes.length;
}

/**
 * The reply to each character of two to four bytes, learnt when it first comes.
 *
 * An entry is 0: not learnt yet; or the reply's one to four bytes, the first in
 * the lowest place; or `number << 8`: the reply is `longReplies[number]`. No
 * reply begins with a byte 0, so an entry whose lowest byte is 0 is a rare case.
 *
 * 8.6 MB of address space, of which a text uses a few pages, ASCII nothing.
 */
let replies: Int32Array | undefined;
const longReplies = [NOTHING];

// A character's place in `replies` is what its bytes say beside their marks,
// 110xxxxx 10xxxxxx and so on (Unicode 16.0, table 3-6): 11, 16 or 21 bits.
// Those of four bytes reach beyond Unicode, and overlong forms and surrogates
// have places too: what is no UTF-8 is learnt like the rest.
const FIRST_OF_THREE = 1 << 11;
const FIRST_OF_FOUR = FIRST_OF_THREE + (1 << 16);
const PLACES = FIRST_OF_FOUR + (1 << 21);

function placeOfTwo(word: number): number {
  return (word & 0x1f) << 6 | (word >> 8) & 0x3f;
}

function placeOfThree(word: number): number {
  return FIRST_OF_THREE +
    ((word & 0xf) << 12 | (word >> 2) & 0xfc0 | (word >> 16) & 0x3f);
}

function placeOfFour(word: number): number {
  return FIRST_OF_FOUR + ((word & 0x7) << 18 | (word << 4) & 0x3f000 |
    (word >> 10) & 0xfc0 | (word >> 24) & 0x3f);
}

/** How many bytes an entry holds: those that are not 0. */
function lengthOf(entry: number): number {
  return 4 - (Math.clz32(entry) >> 3);
}

/** Asks toUpperCase() for a reply and notes it. ASCII never comes here. */
function learn(place: number, character: Uint8Array): Uint8Array {
  const text = decoder.decode(character);
  // U+FFFD stands for bytes that are no UTF-8, which stay as they came.
  const upper = text.includes("\ufffd")
    ? character.slice()
    : encoder.encode(text.toUpperCase());
  let entry = 0;
  if (upper.length > 4) entry = (longReplies.push(upper) - 1) << 8;
  else upper.forEach((byte, index) => entry |= byte << (8 * index));
  replies![place] = entry;
  return upper;
}

// Where uppercaseAny() works, never for two at a time. A character's reply has at
// most three times its bytes (Unicode 16.0, SpecialCasing.txt: "ΐ", 2 to 6).
// Words are read and written whole, so both have room for one more at the end.
const ONE_MORE = 8;
let source = new DataView(new ArrayBuffer(0));
let target = new DataView(new ArrayBuffer(0));

/** Uppercases any text; the reply is good until the next call. */
function uppercaseAny(bytes: Uint8Array): Uint8Array {
  const end = bytes.length;
  if (source.byteLength < end + ONE_MORE) {
    source = new DataView(new ArrayBuffer(end + ONE_MORE));
    target = new DataView(new ArrayBuffer(3 * end + ONE_MORE));
  }
  const input = new Uint8Array(source.buffer);
  const output = new Uint8Array(target.buffer);
  input.set(bytes);
  input.fill(0, end, end + ONE_MORE);
  const table = replies ??= new Int32Array(PLACES);

  let from = 0; // where we are in the input
  let to = 0; // and in the output
  while (from < end) {
    // ASCII, four at a time.
    let word = source.getInt32(from, true);
    while ((word & TOP_BITS) === 0 && from < end) {
      target.setInt32(to, uppercaseWord(word), true);
      from += 4;
      to += 4;
      word = source.getInt32(from, true);
    }
    if (from >= end) break;

    // ASCII at the front of a word, which is its lowest bytes (`true`: little
    // endian). What follows is written over at once.
    target.setInt32(to, uppercaseWord(word), true);
    const topBits = word & TOP_BITS;
    const ascii = (31 - Math.clz32(topBits & -topBits)) >> 3;
    from += ascii;
    to += ascii;
    word = source.getInt32(from, true);

    do {
      // Characters of two bytes, two at a time: most of Greek.
      while ((word & 0xc0e0c0e0) === (0x80c080c0 | 0)) {
        const one = table[placeOfTwo(word)]!;
        const two = table[placeOfTwo(word >> 16)]!;
        if ((one & 0xff) === 0 || (two & 0xff) === 0) break;
        target.setInt32(to, one, true);
        to += lengthOf(one);
        target.setInt32(to, two, true);
        to += lengthOf(two);
        from += 4;
        word = source.getInt32(from, true);
      }

      // Characters of three bytes: most of Chinese.
      while ((word & 0xc0c0f0) === 0x8080e0) {
        const entry = table[placeOfThree(word)]!;
        if ((entry & 0xff) === 0) break;
        target.setInt32(to, entry, true);
        to += lengthOf(entry);
        from += 3;
        word = source.getInt32(from, true);
      }

      // One character of any size, also one that comes for the first time.
      if ((word & 0x80) === 0) break;
      let size: number;
      let place: number;
      if ((word & 0xc0e0) === 0x80c0) {
        size = 2;
        place = placeOfTwo(word);
      } else if ((word & 0xc0c0f0) === 0x8080e0) {
        size = 3;
        place = placeOfThree(word);
      } else if ((word & 0xc0c0c0f8) === (0x808080f0 | 0)) {
        size = 4;
        place = placeOfFour(word);
      } else {
        target.setInt8(to, word); // no UTF-8: a byte by itself
        from += 1;
        to += 1;
        word = source.getInt32(from, true);
        continue;
      }
      const entry = table[place]!;
      if ((entry & 0xff) !== 0) {
        target.setInt32(to, entry, true);
        to += lengthOf(entry);
      } else {
        const upper = entry === 0
          ? learn(place, input.subarray(from, from + size))
          : longReplies[entry >> 8]!;
        for (let at = 0; at < upper.length; at++) output[to++] = upper[at]!;
      }
      from += size;
      word = source.getInt32(from, true);
    } while ((word & 0x80) !== 0);
  }
  return output.subarray(0, to - (from - end)); // less what was beyond the end
}

// ------------------------------------------------------- options and messages

interface Options {
  /** Address to listen on. @default "127.0.0.1" */
  hostname: string;
  /** Port; 0 picks a free one. @default 6789 */
  port: number;
  /** Clients served at a time. @default 1000 */
  maxConnections: number;
  /** Clients served at a time from one address; 0 is no limit. @default 0 */
  maxPerAddress: number;
  /** Seconds without a byte either way; 0 is for ever. @default 300 */
  idleTimeout: number;
  /** Leaves out of the log what happens every day. @default false */
  quiet: boolean;
}

const USAGE = `A TCP server that sends text back in uppercase.

Usage: deno run --allow-net server.ts [options]

  --hostname NAME         address to listen on (default 127.0.0.1);
                          0.0.0.0 or :: opens it to the network
  -p, --port N            port (default 6789); 0 picks a free one
  --max-connections N     clients at a time (default 1000); more wait
  --max-per-address N     clients at a time from one address; more are
                          refused (default 0: no limit)
  --idle-timeout SECONDS  closes a connection on which nothing moves for
                          that long (default 300); 0 never
  -q, --quiet             log the first line and what went wrong alone
  -h, --help              show this

Ctrl-C stops it when transfers are done, a second one at once.

Examples:
  deno run --allow-net server.ts
  deno run --allow-net server.ts --port 7000 --quiet
  deno run --allow-net server.ts --hostname 0.0.0.0 --max-per-address 20`;

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
function readOptions(args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: {
        hostname: { type: "string", default: "127.0.0.1" },
        port: { type: "string", short: "p", default: "6789" },
        "max-connections": { type: "string", default: "1000" },
        "max-per-address": { type: "string", default: "0" },
        "idle-timeout": { type: "string", default: "300" },
        quiet: { type: "boolean", short: "q", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
    if (hostname === "") throw new Error("--hostname must not be empty");
    const number = (
      name: "port" | "max-connections" | "max-per-address" | "idle-timeout",
      least: number,
      most: number,
    ) => wholeNumber(`--${name}`, values[name], least, most);
    return {
      hostname,
      port: number("port", 0, 65535),
      maxConnections: number("max-connections", 1, 1_000_000),
      maxPerAddress: number("max-per-address", 0, 1_000_000),
      idleTimeout: number("idle-timeout", 0, 1_000_000),
      quiet: values.quiet,
    };
  } catch (error) {
    fail(`${oneLine(error)} (--help shows the options)`, 2);
  }
}

function wholeNumber(
  name: string,
  value: string,
  least: number,
  most: number,
): number {
  const number = /^[0-9]+$/.test(value) ? Number(value) : NaN;
  if (number >= least && number <= most) return number;
  throw new Error(
    `${name} must be a whole number from ${least} to ${most}, ` +
      `not ${JSON.stringify(value)}`,
  );
}

/** Says what keeps the server from running, and what to do about it. */
function explain(error: unknown, { hostname, port }: Options): never {
  if (isMistake(error)) throw error;
  const address = format({ hostname, port });
  if (error instanceof Deno.errors.AddrInUse) {
    fail(`${address} is in use; choose another --port, or stop what uses it`);
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    fail(
      `${address} needs the system's permission; try another --port, above 1023`,
    );
  }
  if (error instanceof Deno.errors.NotCapable) {
    fail(`no permission for ${address}; run it with deno run --allow-net`);
  }
  fail(
    `cannot listen on ${address}: ${oneLine(error)}; ` +
      `--hostname must be an address of this machine`,
  );
}

function fail(message: string, code = 1): never {
  console.error(`server: ${message}`);
  Deno.exit(code);
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll("\n", " ");
}

/** An address as people write it; IPv6 in brackets. */
function format(
  { hostname, port }: { hostname: string; port: number },
): string {
  return hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
}

if (import.meta.main) {
  const options = readOptions(Deno.args);
  try {
    await main(options);
  } catch (error) {
    explain(error, options);
  }
}
