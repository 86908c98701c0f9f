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
import { type Check, checks, type Level } from "./parts/checks.ts";
import {
  COMMON,
  fail,
  oneLine,
  progress,
  readAddress,
  readOptions,
  wholeNumber,
} from "./parts/options.ts";
import { type Broken, Service } from "./parts/service.ts";
import { type Address, NoConnection, noService } from "./parts/tcp.ts";

export { type Check, checks, type Level } from "./parts/checks.ts";
export { Broken, Service, TestClient } from "./parts/service.ts";
export { NoConnection } from "./parts/tcp.ts";

/** How {@linkcode conform} asks. */
export interface ConformOptions {
  /** What it asks. @default {@linkcode checks} */
  checks?: Check[];
  /** The longest wait in which nothing moves: milliseconds. @default 3000 */
  timeLimit?: number;
  /** Called with each check before it is asked. @default nothing */
  onStart?: (check: Check) => void;
  /** Called with each result as it comes. @default nothing */
  onResult?: (result: Result, report: Report) => void;
}

/** What came of one check. */
export interface Result {
  /** The check's name. */
  name: string;
  /** The check's level. */
  level: Level;
  /** The check's promise. */
  promise: string;
  /**
   * "kept" or "broken"; "not meant" for a promise that a textbook's server,
   * one line a connection, never makes; "not asked" when the service had
   * stopped answering before.
   */
  outcome: "kept" | "broken" | "not meant" | "not asked";
  /** Why the service was not asked. */
  reason?: string;
  /** What was sent, if the promise was broken. */
  sent?: string;
  /** What came back, if the promise was broken. */
  came?: string;
  /** What is usually wrong, if the promise was broken. */
  usualCause?: string;
  /** What is worth a word though the promise was kept. It counts for nothing. */
  remark?: string;
}

/** What came of all checks. */
export interface Report {
  /** Where the service listens. */
  address: Address;
  /** It answers one line a connection and closes, as a textbook's server does. */
  oneReply: boolean;
  /** One for each check, in their order. */
  results: Result[];
}

/**
 * Asks a service for all promises, one after the other. Throws
 * {@linkcode NoConnection} if there is none at the address.
 *
 * @example
 * ```ts no-assert
 * import { conform, kept } from "./conformance.ts";
 *
 * async function mark(port: number): Promise<string> {
 *   const report = await conform({ hostname: "127.0.0.1", port });
 *   return kept(report, "required") ? "passed" : "not yet";
 * }
 * ```
 */
export async function conform(
  address: Address,
  options: ConformOptions = {},
): Promise<Report> {
  const { timeLimit = 3000, onStart, onResult } = options;
  const service = new Service(address, timeLimit);
  await service.meet();
  const { oneReply } = service;
  const report: Report = { address, oneReply, results: [] };
  const add = (check: Check, found: Found) => {
    const { name, level = "required", promise } = check;
    const result = { name, level, promise, ...found };
    report.results.push(result);
    onResult?.(result, report);
  };
  let reason: string | undefined;
  for (const check of options.checks ?? checks) {
    if (reason !== undefined) {
      add(check, { outcome: "not asked", reason });
      continue;
    }
    onStart?.(check);
    const found = await ask(check, service);
    await service.closeAll();
    add(check, found);
    if (found.outcome === "kept") continue;
    const answers = await service.answers().catch(() => false);
    if (answers) continue;
    reason = `no answer any more since ${check.name}`;
    // The end of the service is a fault, whatever it was meant to do.
    if (found.outcome === "not meant") reason += ` (${found.usualCause})`;
  }
  return report;
}

/** True if all promises of a level were kept. */
export function kept(report: Report, level: Level): boolean {
  return report.results.every((result) =>
    result.level !== level || result.outcome === "kept"
  );
}

type Found = Omit<Result, "name" | "level" | "promise">;

async function ask(check: Check, service: Service): Promise<Found> {
  try {
    const remark = await check.run(service) || undefined;
    return { outcome: "kept", remark };
  } catch (error) {
    const outcome = service.oneReply && !check.oneLine ? "not meant" : "broken";
    if (error instanceof NoConnection) {
      return {
        outcome,
        sent: "a request to connect",
        came: error.message,
        usualCause: "the server has ended, or it no longer accepts clients: " +
          "look at its own output for an error",
      };
    }
    // A mistake in a check of your own has a message alone.
    const { sent, came = oneLine(error), usualCause } = error as Broken;
    return { outcome, sent, came, usualCause };
  }
}

// ------------------------------------------------------------ for the terminal

/** One check's lines; a cause that was told before is not told again. */
function print(result: Result, { results }: Report, width: number): void {
  const { name, level, promise, outcome, usualCause } = result;
  if (outcome === "not asked") return; // the summary names them
  const told = usualCause === undefined
    ? result
    : results.find((one) => one.usualCause === usualCause)!;
  const notes = [];
  if (level === "full text" && outcome !== "kept") notes.push("full text");
  if (outcome === "broken" && told !== result) {
    notes.push(`cause as for ${told.name}`);
  }
  const mark = { "kept": "✓", "broken": "✗", "not meant": "·" }[outcome];
  const end = notes.length > 0 ? ` (${notes.join(", ")})` : "";
  console.log(`${mark} ${name.padEnd(width)}  ${promise}${end}`);
  if (outcome === "broken" && told === result) {
    show("sent", result.sent);
    show("came", result.came);
    show("cause", usualCause);
  }
  show("note", result.remark);
}

/** Prints a text behind its label. */
function show(label: string, text: string | undefined): void {
  if (text !== undefined) console.log(wrap(text, `    ${label.padEnd(7)}`));
}

/** Breaks a text into lines of 80 columns behind a label. */
function wrap(text: string, label: string): string {
  const width = 80 - label.length;
  // Up to the last space that fits; a word longer than a line is cut.
  const line = new RegExp(`\\S.{0,${width - 1}}(?= |$)|\\S{${width}}`, "gs");
  const lines = text.match(line) ?? [];
  return label + lines.join("\n" + " ".repeat(label.length));
}

function summary(report: Report, strict: boolean): string {
  const count = (level: Level) => {
    const all = report.results.filter((result) => result.level === level);
    const good = all.filter((result) => result.outcome === "kept");
    return all.length === 0
      ? []
      : [`${level}: ${good.length} of ${all.length}`];
  };
  const counts = [...count("required"), ...count("full text")].join(", ");
  const hint = strict || kept(report, "full text")
    ? ""
    : " Full text counts with --strict.";
  const notAsked = report.results.filter(({ reason }) => reason !== undefined);
  const names = notAsked.map(({ name }) => name).join(", ");
  const folded = names === ""
    ? ""
    : wrap(`not asked, ${notAsked[0].reason}: ${names}`, "- ") + "\n";
  const text = `${folded}\nPromises kept: ${counts}.${hint}`;
  if (!report.oneReply) return text;
  return text + `

This is the textbook's server: it answers once on each connection and closes.
That was all it was meant to do. What is marked · it never promised. To get
there, read until the end of input instead of once, serve each client in a
thread or task of its own, and let no client's error end the server.`;
}

// ------------------------------------------------------- options and messages

const PROGRAM = "conformance";

const USAGE = `Checks a running uppercase service, whatever language it is in.

Usage: deno run --allow-net lib/conformance.ts [options]

  --hostname NAME    the service's address or name (default 127.0.0.1)
  -p, --port N       its port (default 6789)
  --only NAME        asks this check alone; may be given more than once
  --list             shows the checks and ends
  --timeout SECONDS  the longest wait in which nothing moves (default 3)
  --strict           full text counts too
  --json             results as JSON
  -h, --help         show this

Exit code 0: all required promises are kept. 1: some are not, or there is no
service. 2: wrong usage.

Examples:
  deno run --allow-net lib/conformance.ts --port 7000
  deno run --allow-net lib/conformance.ts --only half-close --only slow-reader`;

/**
 * The program: asks for all promises in a list, prints what came of it and
 * ends the process. README.md shows how to call it with checks of your own.
 */
export async function main(list: Check[] = checks): Promise<never> {
  const options = readOptions(PROGRAM, () => parse(list));
  const { address, only, timeLimit, json } = options;
  const width = Math.max(...only.map((check) => check.name.length));
  if (options.list) {
    for (const { name, level = "required", promise } of only) {
      console.log(`${name.padEnd(width)}  ${level.padEnd(9)}  ${promise}`);
    }
    Deno.exit(0);
  }
  try {
    const report = await conform(address, {
      checks: only,
      timeLimit,
      onStart: ({ name, promise }) => progress(`  ${name}  ${promise} …`),
      onResult: (result, report) => {
        progress("");
        if (!json) print(result, report, width);
      },
    });
    const ok = kept(report, "required") &&
      (!options.strict || kept(report, "full text"));
    if (json) console.log(JSON.stringify({ ...report, ok }, null, 2));
    else console.log(summary(report, options.strict));
    Deno.exit(ok ? 0 : 1);
  } catch (error) {
    if (!(error instanceof NoConnection)) throw error;
    fail(PROGRAM, noService(address, error));
  }
}

/** Reads the options, or ends the process after help. */
function parse(list: Check[]) {
  const { values } = parseArgs({
    options: {
      ...COMMON,
      only: { type: "string", multiple: true, default: [] },
      list: { type: "boolean", default: false },
      timeout: { type: "string", default: "3" },
      strict: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const { only, timeout } = values;
  const unknown = only.find((name) => list.every((one) => one.name !== name));
  if (unknown !== undefined) {
    throw new Error(
      `--only ${JSON.stringify(unknown)} is no check; --list shows them`,
    );
  }
  return {
    ...values,
    address: readAddress(values),
    timeLimit: 1000 * wholeNumber("--timeout", timeout, 1, 3600),
    only: list.filter(({ name }) => only.length === 0 || only.includes(name)),
  };
}

if (import.meta.main) await main();
