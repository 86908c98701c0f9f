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
import { type Check, checks } from "./parts/checks.ts";
import { oneLine, readAddress } from "./parts/options.ts";
import { type Address, format } from "./parts/tcp.ts";
import { Broken, NoConnection, Service } from "./parts/service.ts";

export { type Check, checks } from "./parts/checks.ts";
export { Broken, Client, NoConnection, Service } from "./parts/service.ts";

/** How {@linkcode conform} asks. */
export interface ConformOptions {
  /** What it asks. @default {@linkcode checks} */
  checks?: Check[];
  /** The longest wait in which nothing moves: milliseconds. @default 3000 */
  timeLimit?: number;
  /** Called with each result as it comes. @default nothing */
  onResult?: (result: Result, report: Report) => void;
}

/** What came of one check. */
export interface Result {
  /** The check's name. */
  name: string;
  /** The check's level. */
  level: Check["level"];
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
  const { timeLimit = 3000, onResult = () => {} } = options;
  const service = new Service(address, timeLimit);
  await service.meet();
  const report: Report = {
    address,
    oneReply: service.oneReply,
    results: [],
  };
  let reason: string | undefined;
  for (const check of options.checks ?? checks) {
    const { name, level, promise } = check;
    const result: Result = { name, level, promise, outcome: "not asked" };
    if (reason === undefined) {
      Object.assign(result, await ask(check, service));
      await service.closeAll();
      if (result.outcome !== "kept" && !await stillAnswers(service)) {
        reason = `no answer any more since ${name}`;
      }
    } else {
      result.reason = reason;
    }
    report.results.push(result);
    onResult(result, report);
  }
  return report;
}

/** True if all promises of a level were kept. */
export function kept(report: Report, level: Check["level"]): boolean {
  return report.results.every((result) =>
    result.level !== level || result.outcome === "kept"
  );
}

async function ask(check: Check, service: Service): Promise<Partial<Result>> {
  try {
    await check.run(service);
    return { outcome: "kept" };
  } catch (error) {
    const outcome = service.oneReply && !check.oneLine ? "not meant" : "broken";
    if (error instanceof Broken) {
      const { sent, came, usualCause } = error;
      return { outcome, sent, came, usualCause };
    }
    const message = oneLine(error);
    if (error instanceof NoConnection) {
      return {
        outcome,
        sent: "a request to connect",
        came: message,
        usualCause: "the server has ended, or it no longer accepts clients: " +
          "look at its own output for an error",
      };
    }
    return { outcome, came: message };
  }
}

async function stillAnswers(service: Service): Promise<boolean> {
  try {
    return await service.answers();
  } catch {
    return false;
  }
}

// ------------------------------------------------------------ for the terminal

const MARKS = {
  "kept": "✓",
  "broken": "✗",
  "not meant": "·",
  "not asked": "-",
};

/** One check's lines; a cause that was told before is not told again. */
function print(result: Result, { results }: Report, width: number): void {
  const { name, level, promise, outcome, reason } = result;
  const remark = reason !== undefined
    ? ` (not asked: ${reason})`
    : outcome !== "kept" && level === "full text"
    ? " (full text)"
    : "";
  console.log(`${MARKS[outcome]} ${name.padEnd(width)}  ${promise}${remark}`);
  if (outcome !== "broken") return;
  const same = results.find(({ usualCause }) =>
    usualCause !== undefined && usualCause === result.usualCause
  );
  const cause = same === undefined || same === result
    ? result.usualCause
    : `as for ${same.name}`;
  for (
    const [label, text] of [
      ["sent", result.sent],
      ["came", result.came],
      ["cause", cause],
    ]
  ) {
    if (text !== undefined) {
      console.log(wrap(text, `    ${label!.padEnd(7)}`));
    }
  }
}

/** Breaks a text into lines of 80 columns, with a hanging indent. */
function wrap(text: string, label: string): string {
  const width = 80 - label.length;
  const lines = [];
  let rest = text;
  while (rest.length > width) {
    const at = rest.lastIndexOf(" ", width);
    if (at <= 0) break;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at + 1);
  }
  return label + [...lines, rest].join("\n" + " ".repeat(label.length));
}

function summary(report: Report, strict: boolean): string {
  const count = (level: Check["level"]) => {
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
  const text = `Promises kept: ${counts}.${hint}`;
  if (!report.oneReply) return text;
  return text + `

This is the textbook's server: it answers once on each connection and closes.
That was all it was meant to do. What is marked · it never promised. To get
there, read until the end of input instead of once, serve each client in a
thread or task of its own, and let no client's error end the server.`;
}

// ------------------------------------------------------- options and messages

interface Options {
  address: Address;
  timeLimit: number;
  only: Check[];
  list: boolean;
  strict: boolean;
  json: boolean;
}

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
 * ends the process.
 *
 * @example A teacher's own check
 * ```ts no-assert
 * import { checks, main } from "./conformance.ts";
 *
 * if (import.meta.main) {
 *   await main([...checks, {
 *     name: "digits",
 *     level: "required",
 *     promise: "digits come back as they are",
 *     run: (service) => service.expect("42\n", "42\n"),
 *   }]);
 * }
 * ```
 */
export async function main(
  list: Check[] = checks,
  args: string[] = Deno.args,
): Promise<never> {
  const options = readOptions(list, args);
  const { address, only, timeLimit, json } = options;
  const width = Math.max(...only.map((check) => check.name.length));
  if (options.list) {
    for (const { name, level, promise } of only) {
      console.log(`${name.padEnd(width)}  ${level.padEnd(9)}  ${promise}`);
    }
    Deno.exit(0);
  }
  try {
    const report = await conform(address, {
      checks: only,
      timeLimit,
      onResult: (result, report) => json || print(result, report, width),
    });
    const ok = kept(report, "required") &&
      (!options.strict || kept(report, "full text"));
    if (json) console.log(JSON.stringify({ ...report, ok }, null, 2));
    else console.log(`\n${summary(report, options.strict)}`);
    Deno.exit(ok ? 0 : 1);
  } catch (error) {
    if (!(error instanceof NoConnection)) throw error;
    fail(
      `no service at ${format(address)}: ${error.message}; ` +
        `start the server first, and give its --port`,
      1,
    );
  }
}

/** Reads the options, or ends the process: 0 after help, 2 after a mistake. */
function readOptions(list: Check[], args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: {
        hostname: { type: "string", default: "127.0.0.1" },
        port: { type: "string", short: "p", default: "6789" },
        only: { type: "string", multiple: true, default: [] },
        list: { type: "boolean", default: false },
        timeout: { type: "string", default: "3" },
        strict: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      Deno.exit(0);
    }
    const seconds = /^[0-9]+(\.[0-9]+)?$/.test(values.timeout)
      ? Number(values.timeout)
      : NaN;
    if (!(seconds >= 0.1 && seconds <= 3600)) {
      throw new Error(
        `--timeout must be a number of seconds from 0.1 to 3600, ` +
          `not ${JSON.stringify(values.timeout)}`,
      );
    }
    for (const name of values.only) {
      if (!list.some((check) => check.name === name)) {
        throw new Error(
          `--only ${JSON.stringify(name)} is no check; --list shows them`,
        );
      }
    }
    return {
      address: readAddress(values),
      timeLimit: 1000 * seconds,
      only: values.only.length === 0
        ? list
        : list.filter((check) => values.only.includes(check.name)),
      list: values.list,
      strict: values.strict,
      json: values.json,
    };
  } catch (error) {
    fail(`${oneLine(error)} (--help shows the options)`, 2);
  }
}

function fail(message: string, code: number): never {
  console.error(`conformance: ${message}`);
  Deno.exit(code);
}

if (import.meta.main) await main();
