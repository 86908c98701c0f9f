// SPDX-License-Identifier: 0BSD

/**
 * What any uppercase service can be held to, one promise a check.
 *
 * The order matters: what may bring a service down comes last.
 */

import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { CLOSED, DECODER, FULL_BUFFER, NEVER_CLOSES } from "./causes.ts";
import type { ConverseOptions, Service, Step } from "./service.ts";
import { Broken } from "./subject.ts";
import { reset } from "../parts/tcp.ts";

/**
 * What depends on a promise: "required" decides the exit code. "exact bytes",
 * line ends, and "full text", exact Unicode, decide it with `--strict`.
 */
export type Level = "required" | "exact bytes" | "full text";

/** One promise, and how to ask a service whether it keeps it. */
export interface Check<T = Service> {
  /** A short name, for `--only`. */
  name: string;
  /** What depends on it. @default "required" */
  level?: Level;
  /** The promise in plain words: one line that says what holds. */
  promise: string;
  /** A textbook's server, one line a connection, keeps it too. @default false */
  oneReply?: boolean;
  /**
   * Asks the service; throws, best a {@linkcode Broken}, if it does not hold.
   * What it returns is said although it holds.
   */
  run(service: T): Promise<string | void> | string | void;
}

// ---------------------------------------------------------------- the checks

/** All checks. Add an object here, and the program asks it too. */
export const checks: Check[] = [
  {
    name: "uppercase",
    promise: "a line comes back in uppercase",
    oneReply: true,
    // The first client has asked for it already.
    run(service) {
      if (service.firstFault) throw service.firstFault;
    },
  },
  {
    name: "several-lines",
    promise: "several lines in one packet all come back, empty ones too",
    run: (service) =>
      service.expect("one\ntwo\n\nfour\n", "ONE\nTWO\n\nFOUR\n"),
  },
  {
    name: "pieces",
    promise: "a line in many packets comes back as one line",
    // The reply to the line before shows that the first part has been read.
    run: (service) =>
      service.converse([
        { send: "one\ntw", reply: "ONE\n" },
        { send: "o\nthr", reply: "TWO\n" },
        { send: "ee\n", reply: "THREE\n" },
      ]),
  },
  {
    name: "interactive",
    promise: "the reply to a line comes before the end of input",
    oneReply: true,
    // The first client has asked for this, too.
    async run(service) {
      if (service.answersAtOnce) return;
      if (service.served === 0) throw service.firstFault;
      const client = await service.connect();
      client.send("a line of many\n".repeat(10_000));
      const comes = await client.until(() => client.count > 0);
      throw new Broken(
        "a line, and then nothing: the input stayed open",
        `nothing in ${service.timeout} s, and the reply after the end of input`,
        comes
          ? FULL_BUFFER
          : "it replied only after the end of input: write (and flush) inside the " +
            "loop that reads, and not after it",
      );
    },
  },
  {
    name: "conversation",
    promise: "one connection carries line after line, each with its reply",
    run: (service) =>
      service.converse([
        { send: "one\n", reply: "ONE\n" },
        { send: "two\n", reply: "TWO\n" },
        { send: "three\n", reply: "THREE\n" },
      ]),
  },
  {
    name: "untouched",
    promise: "digits, signs, spaces and capitals stay as they are",
    oneReply: true,
    run: (service) => {
      const line =
        "  0123456789 ABC XYZ\t@[`{~}^_|\\/'\"!?.,;:-+*=<>()#$%%& \n";
      return service.expect(line, line);
    },
  },
  {
    name: "long-line",
    promise: "a line of a megabyte comes back whole",
    oneReply: true,
    run: (service) => {
      // A textbook's server in Java writes each byte by itself.
      const size = service.oneReply ? 100_000 : 1_000_000;
      const line = LINES.slice(0, size).replaceAll("\n", " ") + "\n";
      return service.expect(line, line.toUpperCase());
    },
  },
  {
    name: "order",
    promise: "4 MB stay in order, sent and read at the same time",
    run: (service) => expectLines(service, 4_000_000),
  },
  {
    name: "half-close",
    promise: "after the end of input all bytes come, then the close",
    oneReply: true,
    async run(service) {
      const endAtOnce = true;
      // Whether an empty line is a line was asked before, but of a textbook's server.
      const ifShort = service.oneReply ? undefined : CLOSED;
      await service.expect("\n", "\n", { endAtOnce, ifShort });
      if (!service.oneReply) await expectLines(service, 100_000, { endAtOnce });
      if (service.closes) return;
      throw new Broken(
        "a text, then the end of input",
        `the whole reply, but no close in ${service.timeout} s`,
        NEVER_CLOSES,
      );
    },
  },
  {
    name: "two-clients",
    promise: "two clients at once do not wait for each other, nor mix",
    run: (service) => {
      const second = () =>
        service.converse([says(2)], { ifShort: ONE_AT_A_TIME });
      return service.converse([
        { send: "client 1 ", reply: "", meanwhile: second },
        { send: "is slow\n", reply: "CLIENT 1 IS SLOW\n", meanwhile: second },
      ], { ifShort: SHARED });
    },
  },
  {
    name: "hundred",
    promise: "100 clients at once each get their own reply",
    async run(service) {
      // One after the other: a short queue for accept() is no fault. And then
      // all at once, many times: threads must meet to disturb each other.
      const times = service.answersAtOnce && !service.oneReply ? 21 : 1;
      const all = Promise.withResolvers<void>();
      const clients: Promise<void>[] = [];
      for (let name = 1; name <= 100; name++) {
        const served = Promise.withResolvers<void>();
        const meanwhile = () => {
          served.resolve();
          return all.promise;
        };
        const step = { ...says(name, 25), meanwhile };
        const steps = Array<Step>(times).fill(step);
        const ifShort = name === 2 ? ONE_AT_A_TIME : POOL;
        const client = service.converse(steps, { ifShort });
        await Promise.race([served.promise, client]);
        clients.push(client);
      }
      all.resolve();
      await Promise.all(clients);
      // Five that connect at the same moment (a short queue for accept() is no
      // fault), again and again, with long lines if those alone have no fault.
      const long = service.told.size === 0 ? 100 : 1;
      const end = performance.now() + 2000;
      for (let rush = 0; rush < 50 && performance.now() < end; rush++) {
        const five = [1, 2, 3, 4, 5].map((name) =>
          service.converse([says(name, long)], { ifShort: SHARED })
        );
        await Promise.all(five);
      }
    },
  },
  {
    name: "pause",
    promise: "a client that says nothing for 2.5 s is served after that",
    oneReply: true,
    run: (service) => {
      // A textbook's server may read only once.
      const first = service.oneReply ? "" : "hel";
      return service.converse([
        { send: first, reply: "", meanwhile: () => pause(2500) },
        { send: "hello\n".slice(first.length), reply: "HELLO\n" },
      ], {
        ifShort:
          "it probably gave up a client that paused: let the time limit of a read " +
          "be long, and take no ready() or DataAvailable for the end of input",
      });
    },
  },
  {
    name: "slow-reader",
    promise: "a client that reads late and slowly gets all bytes (10 MB)",
    async run(service) {
      const began = performance.now();
      let wait = 100; // all buffers are full by then
      await expectLines(service, 10_000_000, {
        beforeRead: () => pause(wait).then(() => wait = 1),
        atMost: 32 * 1024,
        endAtOnce: true,
      });
      // A server that closes at the end of input loses what it has yet to write.
      // It does so if the reply is a little longer than what the system takes for
      // a client that reads nothing: on Linux 4.0 to 4.4 MB. Erlang needs the most
      // exact size, so most are near its own.
      for (let round = 0; round < 10; round++) {
        if (performance.now() - began > 10_000) return;
        const late = Promise.withResolvers<unknown>();
        const four = Array.from({ length: 4 }, () => {
          const size = 4_272_000 + 60_000 * (2 * Math.random() - 1) ** 3;
          const how = { endAtOnce: true, beforeRead: () => late.promise };
          return expectLines(service, size, how);
        });
        // It begins after them, and has a longer reply: then theirs are written, too.
        const another = expectLines(service, 5_000_000).catch(() => {});
        late.resolve(service.wait(another, 0.9 * service.timeout));
        await Promise.all(four);
      }
    },
  },
  {
    name: "zero-byte",
    promise: "a zero byte in a line stays, and what follows it too",
    oneReply: true,
    run: (service) => service.expect("one\0two\n", "ONE\0TWO\n"),
  },
  {
    name: "no-line-end",
    level: "exact bytes",
    promise: "a last line without a line end comes back just so",
    run: (service) =>
      service.expect("one\ntwo\nend", "ONE\nTWO\nEND", {
        endAtOnce: true,
        exactLineEnds: true,
      }),
  },
  {
    name: "crlf",
    level: "exact bytes",
    promise: "line ends come back as they were sent: \\r\\n, \\n",
    run: (service) =>
      service.expect("one\r\ntwo\n", "ONE\r\nTWO\n", { exactLineEnds: true }),
  },
  {
    name: "letters",
    level: "full text",
    promise: "letters beyond A to Z: è, ñ, ω, ж are È, Ñ, Ω, Ж",
    oneReply: true,
    run: (service) =>
      service.expect(
        "perché è così: mañana, αβγ ω, жизнь, štěstí, ÿ\n",
        "PERCHÉ È COSÌ: MAÑANA, ΑΒΓ Ω, ЖИЗНЬ, ŠTĚSTÍ, Ÿ\n",
      ),
  },
  {
    name: "special",
    level: "full text",
    promise: "letters whose uppercase is longer: ß is SS, ﬁ is FI",
    oneReply: true,
    run: (service) =>
      service.expect(
        "straße, ﬁne, ŉ, \u0390, ς σ, ı i, ǆ\n",
        "STRASSE, FINE, ʼN, \u0399\u0308\u0301, Σ Σ, I I, Ǆ\n",
      ),
  },
  {
    name: "cuts",
    level: "full text",
    promise: "characters of 2, 3 and 4 bytes survive every cut",
    async run(service) {
      for (const character of ["È", "€", "漢", "😀"]) {
        const all = Buffer.from(`A\n${character}\n`);
        // What is wrong with a whole character is not the fault of a cut.
        await service.expect(all, all);
        for (let cut = 3; cut < all.length - 1; cut++) {
          // The reply to the line shows that the first part has been read.
          await service.converse([
            { send: all.subarray(0, cut), reply: "A\n" },
            { send: all.subarray(cut), reply: `${character}\n` },
          ]);
        }
      }
      // And wherever the service's own buffer ends: lines of all lengths.
      let text = "";
      for (let count = 0; text.length < 300_000; count++) {
        text += "È€漢😀".repeat(1 + count % 29) + count ** 2 + "\n";
      }
      await service.expect(text, text);
    },
  },
  {
    name: "first-character",
    level: "full text",
    promise: "a byte order mark (U+FEFF) at the start comes back",
    run: (service) => service.expect("\uFEFFone\n", "\uFEFFONE\n"),
  },
  {
    name: "never-reads",
    promise: "a client that sends and never reads holds up no other",
    async run(service) {
      const gate = Promise.withResolvers<void>();
      const client = await service.connect({ beforeRead: () => gate.promise });
      client.send("a line that nobody reads\n".repeat(800_000));
      const sent = "a long text, from a client that reads nothing";
      const end = performance.now() + 2000 * service.timeout;
      try {
        // Backpressure stops it sooner or later, or all 20 MB are sent: no byte
        // moves during 50 answers.
        let before = -1;
        for (let still = 0; still < 50; still++) {
          if (client.sent !== before && performance.now() < end) still = 0;
          before = client.sent;
          await survives(service, sent, ONE_AT_A_TIME);
        }
      } finally {
        gate.resolve(); // it reads now after all: a reset is another check
      }
    },
  },
  {
    name: "not-text",
    promise: "a client sends bytes that are no text: the next is served",
    async run(service) {
      const client = await service.connect();
      client.send(Buffer.from("00ffc328eda0800af09f", "hex"));
      client.end();
      if (service.closes) await client.ended();
      const sent = "bytes that are no UTF-8 (00 ff c3 28 ed a0 80 0a f0 9f)";
      await survives(service, sent, DECODER);
    },
  },
  {
    name: "empty",
    promise: "a connection on which nothing is sent ends without a word",
    async run(service) {
      const client = await service.connect();
      client.end();
      await client.ended();
      await survives(
        service,
        "nothing, then the end of input",
        "the end of input came instead of a line, and the server took it for " +
          "one: readLine() gives null, recv() and read() give 0 bytes; test it",
      );
      if (client.count > 0) throw await service.wrong(client.reply, [""], "");
      if (client.ending === "closed") return;
      throw new Broken(
        "nothing, then the end of input",
        client.ending ? "a reset" : `no close in ${service.timeout} s`,
        client.ending ? CLOSED : NEVER_CLOSES,
      );
    },
  },
  {
    name: "reset",
    promise: "a client resets its connection: the next is served",
    async run(service) {
      const next = (sent: string) =>
        survives(
          service,
          sent,
          "one client's error ended the whole server: catch errors where a " +
            "client is served, and close that one connection (in C ignore SIGPIPE)",
        );
      for (let count = 1; count <= 10; count++) {
        const resetting = reset(service.address, async (send, reply) => {
          send("hello\n");
          if (service.answersAtOnce) await service.wait(reply);
          // Once where the server reads, once where it may be writing.
          if (count % 2 === 0) send("hello\n");
        });
        await service.wait(resetting);
        await next("a line, and then a reset (as when a client is killed)");
      }
      for (let count = 1; count <= 20; count++) {
        await leaveUnread(service).catch(() => {}); // next() says it better
        await next("60 KB, the end of input, and a reset with replies unread");
      }
    },
  },
  {
    name: "early-reset",
    promise: "clients reset before accept(): the next is served",
    async run(service) {
      // Some meet the server before accept(), and some after.
      const end = performance.now() + 1000 * service.timeout;
      for (let left = 100; left > 0 && performance.now() < end; left--) {
        const ten = Array.from({ length: 10 }, () => reset(service.address));
        await service.wait(Promise.all(ten));
      }
      await survives(
        service,
        "hundreds of connections, each reset at once",
        "accept() itself fails when its client is gone already, and that ended " +
          "the loop (in Deno `for await`): catch its error; or no descriptor is " +
          "left: close each connection, also after an error (finally, using)",
      );
    },
  },
];

// ------------------------------------------------------- what checks have in common

const ONE_AT_A_TIME =
  "clients wait for each other: accept and serve run in turn, a write to one " +
  "client holds up all, or select() does not look at each (its first argument); " +
  "serve each client in a thread or task of its own";

const POOL =
  "only so many clients are served at a time (a pool of threads, a limit), and " +
  "the next ones wait: give each client a thread or task of its own";

const SHARED =
  "a client that is not alone gets no reply, or a part: threads share one variable " +
  "for it (a global one, &fd for pthread_create()), or a list of clients loses the " +
  "wrong one; give each its own";

/** What one of many clients says; no other may get its number. */
function says(name: number, times = 1): Step {
  const text = `client ${name} says a line of its own`;
  const send = Array(times).fill(text).join(", ") + "\n";
  return { send, reply: send.toUpperCase() };
}

/** Expects the reply to numbered lines, none of which is like another. */
function expectLines(service: Service, size: number, how?: ConverseOptions) {
  const text = LINES.slice(0, LINES.lastIndexOf("\n", size) + 1);
  return service.expect(text, text.toUpperCase(), how);
}

const LINES = Array.from(
  { length: 220_000 },
  (_, line) => `line ${line} of a text that has to stay in order\n`,
).join("");

/** Throws unless the service still answers a new client. */
async function survives(service: Service, sent: string, usualCause: string) {
  if (await service.answers()) return;
  const came = service.hasEnded
    ? "nothing listens any more: the server has ended"
    : "no reply to the next client";
  throw new Broken(sent, came, usualCause);
}

/** Ends its input and leaves with the reply unread, which is a reset. */
async function leaveUnread(service: Service): Promise<void> {
  const client = await service.connect({
    // It reads once, and never again.
    beforeRead: async (last) => last && await new Promise(() => {}),
    atMost: 6,
  });
  client.send("hello\n".repeat(10_000));
  client.end();
  await client.until(() => client.count > 0);
  await service.wait(client.sending);
  client.close();
}
