// SPDX-License-Identifier: 0BSD

/**
 * Holds any uppercase service to the same promises, whatever language it is in.
 *
 *     deno run --allow-net lib/conformance.ts --port 6789
 *
 * The promises are the list in `checks.ts`; each is asked over real sockets,
 * one after the other.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { type Check, checks, type Level } from "./checker/checks.ts";
import { ACCEPT_LOOP, ENDED } from "./checker/causes.ts";
import {
  COMMON,
  fail,
  help,
  messageOf,
  noService,
  readAddress,
  readOptions,
  wholeNumber,
} from "./parts/command_line.ts";
import { Client } from "./checker/client.ts";
import { clientChecks } from "./checker/client_checks.ts";
import { Service } from "./checker/service.ts";
import { Broken, type Subject, TooSlow } from "./checker/subject.ts";
import { type Address, NoConnection } from "./parts/tcp.ts";

export { type Check, checks, type Level } from "./checker/checks.ts";

/** How {@linkcode conform} asks. */
export interface ConformOptions<T = Service> {
  /** What it asks. @default all */
  checks?: Check<T>[];
  /** The longest wait in which nothing moves: seconds. @default 3 */
  timeout?: number;
  /** The time of all checks together: seconds. @default 16 times the timeout */
  budget?: number;
  /** Called with each result as it comes. @default nothing */
  onResult?: (result: Result, report: Report) => void;
}

/**
 * What came of a promise. "not meant": a textbook's server, one line a connection,
 * never makes it. "not asked": the service had stopped answering before, or this
 * program's own system cannot ask. "no time": the service is too slow to tell.
 */
export type Outcome =
  | "kept"
  | "broken"
  | "not meant"
  | "not asked"
  | "no time";

/** What came of one check. */
export interface Result {
  /** The check's name. */
  name: string;
  /** The check's level. */
  level: Level;
  /** The check's promise. */
  promise: string;
  /** What came of it. */
  outcome: Outcome;
  /** Why the service was not asked, or not to the end. */
  reason?: string;
  /** What is to be said of it although it is kept. */
  note?: string;
  /** What was sent, if the promise was broken or not meant. */
  sent?: string;
  /** What came back. */
  came?: string;
  /** What is usually wrong. */
  usualCause?: string;
}

/** What came of all checks. */
export interface Report {
  /** It answers one line a connection, as a textbook's server does. */
  oneReply: boolean;
  /** One for each check, in their order. */
  results: Result[];
  /** The check since which the service answers nobody, if there is one. */
  noAnswerSince?: string;
}

/**
 * Asks a service for all promises, one after the other. Throws
 * {@linkcode NoConnection} if there is none at the address.
 */
export function conform(
  address: Address,
  options: ConformOptions = {},
): Promise<Report> {
  return askAll(new Service(address, options.timeout ?? 3), checks, options);
}

/**
 * Asks a client for all promises, and is the server that it connects to. `PORT`
 * in the command becomes the port; port 0 in the address is a free one. Throws
 * {@linkcode NoConnection} if it does not start, or does not connect.
 */
export function conformClient(
  command: string[],
  address: Address,
  options: ConformOptions<Client> = {},
): Promise<Report> {
  const client = new Client(command, address, options.timeout ?? 3);
  return askAll(client, clientChecks, options);
}

async function askAll<T extends Subject>(
  subject: T,
  all: Check<T>[],
  options: ConformOptions<T>,
): Promise<Report> {
  const { budget = 16 * subject.timeout, onResult } = options;
  const end = performance.now() + 1000 * budget;
  // What is asked gets a third of the time that is left.
  const share = () => Math.max(0, end - performance.now()) / 3;
  let rest: Found | undefined; // what is to be said of all checks from now on
  try {
    await subject.during(500 * budget, () => subject.meet());
    if (subject.stopped && !subject.firstFault) rest = NO_TIME;
  } catch (error) {
    if (!(error instanceof TooSlow)) throw error;
    rest = { outcome: "no time", reason: error.message };
  }
  const report: Report = { oneReply: subject.oneReply, results: [] };
  for (const check of options.checks ?? all) {
    const found = rest ?? await ask(check, subject, share());
    const isOver = rest || ["kept", "not asked"].includes(found.outcome) ||
      share() < LEAST;
    const answers = isOver ||
      await subject.during(share(), () => subject.answers())
        .catch(() => true) || // late, but it answers
      subject.stopped; // there was no time
    const isSilent = /^(nothing|0 bytes, wanted \S+), then silence/
      .test(found.came ?? "");
    if (!answers && isSilent && subject.served > 0) {
      found.usualCause = ACCEPT_LOOP;
    }
    const { name, level = "required", promise } = check;
    const result = { name, level, promise, ...found };
    report.results.push(result);
    onResult?.(result, report);
    if (answers) continue;
    if (found.outcome === "no time" && !subject.hasEnded) {
      rest = { outcome: "no time", reason: `still busy after ${name}` };
      continue;
    }
    // The end of the service is a fault, whatever it was meant to do.
    const why = found.outcome === "not meant"
      ? found.usualCause
      : "its own output may say why";
    rest = { outcome: "not asked", reason: `no answer since ${name} (${why})` };
    report.noAnswerSince = name;
  }
  return report;
}

/**
 * True if all promises of these levels are kept, false if one is not; null if
 * that was not to be found out.
 */
function verdict(report: Report, levels: Level[]): boolean | null {
  const deciding = report.results.filter(({ level }) => levels.includes(level));
  const outcomes = new Set(deciding.map(({ outcome }) => outcome));
  const isBroken = outcomes.has("broken") || outcomes.has("not meant");
  if (isBroken || report.noAnswerSince) return false;
  return outcomes.isSubsetOf(new Set(["kept"])) ? true : null;
}

/** Asks for one promise, in so many milliseconds. */
async function ask<T extends Subject>(
  check: Check<T>,
  subject: T,
  share: number,
): Promise<Found> {
  if (share < LEAST) return NO_TIME;
  try {
    const run = async () => await check.run(subject) ?? undefined;
    const note = await subject.during(share, run);
    return { outcome: "kept", note };
  } catch (thrown) {
    if (subject.stopped) return NO_TIME;
    const reason = messageOf(thrown);
    if (thrown instanceof TooSlow) return { outcome: "no time", reason };
    const noConnection = thrown instanceof NoConnection;
    // This program's own error, or its system's, is no fault of the service.
    if (thrown instanceof TypeError || noConnection && thrown.cause) {
      return { outcome: "not asked", reason };
    }
    const cause = subject.hasEnded ? ENDED : ACCEPT_LOOP;
    const error = noConnection
      ? new Broken("a request to connect", reason, cause)
      : thrown;
    // A mistake in a check of your own has a message alone.
    const { sent, came = reason, usualCause } = error as Broken;
    const outcome = subject.oneReply && !check.oneReply
      ? "not meant"
      : "broken";
    if (outcome === "broken") subject.told.add(usualCause);
    return { outcome, sent, came, usualCause };
  }
}

type Found = Omit<Result, "name" | "level" | "promise">;

/** A check that has less time is not begun: milliseconds. */
const LEAST = 300;

const NO_TIME: Found = {
  outcome: "no time",
  reason: "it needs more than a check's share of the time; give a longer " +
    "--timeout",
};

// ------------------------------------------------------------ for the terminal

/** One check's lines; a cause that was told before is not told again. */
function print(result: Result, { results }: Report, width: number): void {
  const { name, level, promise, outcome, sent, came, usualCause, note } =
    result;
  if (outcome === "not asked" || outcome === "no time") return; // the summary names them
  const broken = outcome === "broken";
  const same = (one: Result) =>
    one.outcome === outcome && one.usualCause === usualCause;
  const shown = broken && usualCause ? results.find(same)! : result;
  const notes = note === undefined ? [] : [note];
  if (level !== "required" && outcome !== "kept") notes.push(level);
  if (shown !== result) notes.push(`cause as for ${shown.name}`);
  const mark = { "kept": "✓", "broken": "✗", "not meant": "·" }[outcome];
  const end = notes.length > 0 ? ` (${notes.join(", ")})` : "";
  console.log(`${mark} ${name.padEnd(width)}  ${promise}${end}`);
  if (!broken || shown !== result) return;
  const why = { sent, came, cause: usualCause };
  for (const [label, text] of Object.entries(why)) {
    if (text !== undefined) console.log(wrap(text, `    ${label.padEnd(7)}`));
  }
}

/** Breaks a text into lines of 80 columns behind a label. */
function wrap(text: string, label: string): string {
  const width = 80 - label.length;
  // Up to the last space that fits; a word longer than a line is cut.
  const line = new RegExp(`\\S.{0,${width - 1}}(?= |$)|\\S{${width}}`, "gs");
  const lines = text.match(line) ?? [];
  return label + lines.join("\n" + " ".repeat(label.length));
}

function printSummary(
  report: Report,
  { strict, client }: { strict: boolean; client: boolean },
  ok: boolean | null,
): void {
  const { results, oneReply } = report;
  const counts = LEVELS.flatMap((level) => {
    const all = results.filter((result) => result.level === level);
    const good = all.filter(({ outcome }) => outcome === "kept");
    return all.length === 0 ? [] : `${level}: ${good.length} of ${all.length}`;
  });
  const unknown = results.filter(({ reason }) => reason !== undefined);
  for (const reason of new Set(unknown.map(({ reason }) => reason))) {
    const same = unknown.filter((result) => result.reason === reason);
    const names = same.map(({ name }) => name).join(", ");
    console.log(wrap(`${same[0].outcome}, ${reason}: ${names}`, "- "));
  }
  const last = results.at(-1)!; // a check that ended a textbook's server
  if (last.outcome === "not meant" && last.name === report.noAnswerSince) {
    console.log(wrap(`no answer since ${last.name}: ${last.usualCause}`, "- "));
  }
  console.log(`\nPromises kept: ${counts.join(", ")}.`);
  if (ok === null) console.log(UNDECIDED);
  if (!strict && counts.length > 1) {
    const whose = client
      ? "a client may\nprint prompts."
      : "a service of lines may\nchange line ends.";
    console.log(`The required ones decide, and all with --strict: ${whose}`);
  }
  if (oneReply && !report.noAnswerSince) {
    console.log(client ? TEXTBOOK_CLIENT : TEXTBOOK_SERVER);
  }
}

const LEVELS: Level[] = ["required", "exact bytes", "full text"];

const UNDECIDED =
  "None of those that decide is broken, but not all were asked.";

const TEXTBOOK_CLIENT = `
This is the textbook's client: it sends one line, prints one reply, and closes.
That was all it was meant to do. What is marked · it never promised. To get
there, send line after line in a loop, and print the replies at the same time
(in a second thread, or task) until the server closes.`;

const TEXTBOOK_SERVER = `
This is the textbook's server: it answers once on each connection.
That was all it was meant to do. What is marked · it never promised. To get
there, read until the end of input instead of once, serve each client in a
thread or task of its own, and let no client's error end the server.`;

// ------------------------------------------------------- options and messages

const USAGE =
  `Checks a running uppercase service, whatever language it is in, or a client.

Usage: deno run --allow-net lib/conformance.ts [options]
       deno run --allow-net --allow-run lib/conformance.ts --client [options] --
           COMMAND ... PORT ...

  --hostname NAME    the service's address or name (default 127.0.0.1)
  -p, --port N       its port (default 6789)
  --client           starts the command behind -- once for each check, and is the
                     server that it finds, at its port in place of PORT, or at
                     the one of --port if its text has a port of its own
  --only NAME        asks this check alone; may be given more than once
  --list             shows the checks and ends
  --timeout SECONDS  the longest wait in which nothing moves (default 3); all
                     checks together take 16 times as long at most
  --strict           exact bytes and full text count too
  --json             results as JSON
  -h, --help         show this

Exit code 0: all required promises are kept. 1: some are not, or there is no
service or client. 2: wrong usage. 3: none is broken, but not all could be asked.`;

/**
 * The program: asks for all promises in a list, prints what came of it and
 * ends the process. README.md shows how to call it with checks of your own.
 */
export async function main(list: Check[] = checks): Promise<never> {
  const options = readOptions("conformance", () => parse(list));
  const { address, client, command, asked, timeout, json } = options;
  const width = Math.max(...asked.map((check) => check.name.length));
  if (options.list) {
    for (const { name, level = "required", promise } of asked) {
      console.log(`${name.padEnd(width)}  ${level.padEnd(11)}  ${promise}`);
    }
    Deno.exit(0);
  }
  try {
    const onResult = (result: Result, report: Report) => {
      if (!json) print(result, report, width);
    };
    const how = { checks: asked, timeout, onResult };
    const report = client
      ? await conformClient(command, address, how)
      : await conform(address, how);
    const ok = verdict(report, options.strict ? LEVELS : ["required"]);
    if (json) console.log(JSON.stringify({ ...report, ok }, null, 2));
    else printSummary(report, options, ok);
    Deno.exit(ok === null ? 3 : ok ? 0 : 1);
  } catch (error) {
    if (client) fail("conformance", messageOf(error));
    if (!(error instanceof NoConnection)) throw error;
    fail("conformance", noService(address, error));
  }
}

/** Reads the options, or ends the process after help. */
function parse(list: Check[]) {
  const end = Deno.args.indexOf("--"); // behind it is a client's command
  const command = end < 0 ? [] : Deno.args.slice(end + 1);
  const { values } = parseArgs({
    args: end < 0 ? Deno.args : Deno.args.slice(0, end),
    options: {
      ...COMMON,
      port: { type: "string", short: "p" },
      client: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      list: { type: "boolean", default: false },
      timeout: { type: "string", default: "3" },
      strict: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.help) help(USAGE);
  const { only, client, port } = values;
  const all: Check<never>[] = client ? clientChecks : list;
  const unknown = only.find((name) => all.every((one) => one.name !== name));
  if (unknown !== undefined) {
    throw new Error(
      `--only ${JSON.stringify(unknown)} is no check; --list shows them`,
    );
  }
  if (end >= 0 && !client) throw new Error("a command needs --client");
  if (client && !values.list) {
    if (command.length === 0) {
      throw new Error(
        "--client needs a command behind --, which starts a client",
      );
    }
    if (port === undefined && !command.some((part) => /\bPORT\b/.test(part))) {
      throw new Error(
        "write PORT in the command where the client's port belongs, or give " +
          "--port if the port stands in its text",
      );
    }
  }
  const address = readAddress({ ...values, port: port ?? "6789" });
  if (client && port === undefined) address.port = 0; // a free one
  return {
    ...values,
    address,
    command,
    timeout: wholeNumber("--timeout", values.timeout, 1, 3600),
    asked: all.filter(({ name }) => only.length === 0 || only.includes(name)),
  };
}

if (import.meta.main) await main();
