// SPDX-License-Identifier: 0BSD

/** What any client can be held to, one promise a check. */

import { setTimeout as pause } from "node:timers/promises";
import type { Check } from "./checks.ts";
import type { Client, Session } from "./client.ts";
import { isPrinted, plain, repeats, UNSEEN } from "./client_causes.ts";
import { Broken } from "./subject.ts";

/** All checks of clients. */
export const clientChecks: Check<Client>[] = [
  first("connects", "it connects to the port that it is given"),
  first("line", "a line that is typed arrives so, before the end of input"),
  {
    ...first("interactive", "a reply is printed before the next line is typed"),
    async run(client) {
      const broken = client.broken.get("interactive");
      if (!broken) return;
      if (client.losesReply) throw broken;
      // Python, C and others keep what they print into a pipe, up to some kilobytes.
      const session = await client.start(true);
      session.type(LINE.repeat(20));
      const fits = () => isPrinted(session.printed, [LINE.toUpperCase()]);
      if (!await session.prints(fits)) throw broken;
      return "into a pipe, its output waits in a buffer: on a screen print() and " +
        "printf() show it at once";
    },
  },
  first("end-of-input", "at the end of input the server learns of it (FIN)"),
  first("end", "it ends when the server has closed, with exit code 0"),
  {
    name: "nobody-listens",
    promise: "nobody listens: it ends with another exit code than 0",
    oneReply: true,
    async run(client) {
      const script = await client.startAlone();
      const exit = await client.wait(script.ended, 3 * client.timeout);
      if (exit && exit.code !== 0) {
        const isTrace = /^Exception in|^Traceback|^\s+at /m.test(exit.stderr);
        return isTrace ? "with a stack trace, no plain line" : undefined;
      }
      throw new Broken(
        "no answer to connect()",
        exit ? "exit code 0" : "it still runs",
        "test what connect() gives, or catch its error: say why on standard " +
          "error, and end with exit(1)",
      );
    },
  },
  {
    name: "conversation",
    promise: "line after line is sent, and each reply printed, in order",
    async run(client) {
      const session = await client.start();
      await session.say(["the first of three lines\n", "the second\n", "3\n"]);
      await session.finish();
      if (repeats(session)) throw session.broken("print that alone");
    },
  },
  {
    name: "several-lines",
    promise: "lines typed at once, and their replies, all come; empty ones too",
    async run(client) {
      const session = await client.start(true);
      session.type("line 1\nline 2\n\nline 4\n");
      if (client.sendsAtOnce && !await session.arrives()) {
        throw session.broken("send");
      }
      await session.finish();
      const all = plain(session.arrived).startsWith(session.typed);
      if (!all) throw session.broken("send");
      const lines = () => session.printed.split("\n").length - 1;
      if (!await session.prints(() => lines() >= 4)) {
        throw session.broken("print");
      }
    },
  },
  {
    name: "untouched",
    promise: "blanks, digits and signs are sent and printed as they are",
    oneReply: true,
    run: says(["100 %x of  5\\n [a\tb] & more\n"]),
  },
  {
    name: "pieces",
    promise: "a reply in several packets is printed to its end",
    run: says(["a line in pieces\n"], ["A LINE", " IN PIE", "CES\n"], 300),
  },
  {
    name: "slow-reply",
    promise: "a reply that takes 2.5 s is waited for",
    oneReply: true,
    run: says(["a slow reply\n"], ["A SLOW REPLY\n"], 2500),
  },
  {
    name: "half-close",
    promise: "100 KB that come a second after the end of input are printed",
    async run(client) {
      const session = await client.start();
      await session.say(["hello, number 7391\n"]);
      await session.endInput();
      await pause(1000);
      session.reply(LINE.toUpperCase().repeat(100));
      await session.finish();
    },
  },
  {
    name: "both-ways",
    promise: "4 MB are sent and printed at the same time: nothing is lost",
    async run(client) {
      const session = await client.start(true);
      // A client that reads no reply until all is sent prints nothing as long as
      // its input is open, however much the buffers between both sides hold.
      const printed = await session.type(LINE.repeat(4000)) &&
        await session.prints(() => session.printed !== "");
      if (!printed) throw session.broken("print");
      const { server, typed } = session;
      await server.until(() => server.count >= typed.length);
      await session.finish();
    },
  },
  {
    name: "server-closes",
    promise:
      "the server closes: the client ends after a line or the end of input",
    async run(client) {
      const session = await client.start();
      await session.say(["hello, number 7391\n"]);
      session.close();
      session.server.close();
      session.type("too late\n");
      if (await session.ends(1)) return;
      await session.endInput();
      if (!await session.ends()) throw session.broken("end");
    },
  },
  {
    name: "server-resets",
    promise:
      "the server resets: the client ends after a line or the end of input",
    async run(client) {
      const script = await client.startAlone(true);
      for (const line of ["a line\n", "too late\n"]) {
        script.write(line).catch(() => {}); // it may have ended
        if (await client.wait(script.ended, 1)) return;
      }
      script.closeInput().catch(() => {});
      if (await client.wait(script.ended)) return;
      throw new Broken(
        "typed two lines and the end of input; reset after the first",
        "it still runs",
        UNSEEN,
      );
    },
  },
  {
    name: "replies-alone",
    level: "exact bytes",
    promise: "standard output has the replies and nothing else: no prompt",
    async run(client) {
      const session = await client.start();
      await session.say(["line 1\n", "line 2\n"]);
      await session.finish();
      if (session.printed !== "LINE 1\nLINE 2\n") {
        throw session.broken("print that alone");
      }
    },
  },
  {
    name: "zero-byte",
    level: "exact bytes",
    promise: "a zero byte in a line is sent and printed, and what follows it",
    oneReply: true,
    run: says(["one\0two\n"]),
  },
  {
    name: "no-line-end",
    level: "exact bytes",
    promise: "a last line without a line end is sent and printed just so",
    async run(client) {
      const session = await client.start();
      await session.say(["the end"]);
      await session.finish();
      if (!session.isExact) throw session.broken("send");
      if (!session.printed.endsWith("THE END")) {
        throw session.broken("print that alone");
      }
    },
  },
  {
    name: "letters",
    level: "full text",
    promise: "letters beyond A to Z are sent and printed: è, ñ, ω, ж",
    oneReply: true,
    run: says(["perché è così: mañana, αβγ ω, ж, 😀\n"]),
  },
];

/** A promise that a client's first session has asked for already. */
function first(name: string, promise: string): Check<Client> {
  return {
    name,
    promise,
    oneReply: true,
    run(client) {
      const broken = client.broken.get(name);
      if (broken) throw broken;
    },
  };
}

/** A kilobyte. */
const LINE = `${"a long line;".repeat(85)}\n`;

/** Asks a client in one session: see {@linkcode Session.say}. */
function says(...said: Parameters<Session["say"]>) {
  return async (client: Client) => {
    const session = await client.start();
    await session.say(...said);
    await session.finish();
  };
}
