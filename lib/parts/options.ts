// SPDX-License-Identifier: 0BSD

/**
 * The command line, as the programs read it.
 *
 * @module
 */

import type { Address } from "./tcp.ts";
import { fail, messageOf } from "./terminal.ts";

/** Options that `conformance.ts` and `load.ts` both have, for `parseArgs()`. */
export const COMMON = {
  hostname: { type: "string", default: "127.0.0.1" },
  port: { type: "string", short: "p", default: "6789" },
  help: { type: "boolean", short: "h", default: false },
} as const;

/**
 * Reads `--hostname` and `--port` as they were given.
 *
 * @throws {Error} for an empty name, and a port that is no whole number from 1
 * to 65535
 */
export function readAddress(
  { hostname, port }: { hostname: string; port: string },
): Address {
  const host = hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
  if (host === "") throw new Error("--hostname must not be empty");
  return { hostname: host, port: wholeNumber("--port", port, 1, 65535) };
}

/**
 * Reads an option's value, decimal digits and nothing else.
 *
 * @throws {Error} that names the option, its bounds and the value
 */
export function wholeNumber(
  option: string,
  value: string,
  least: number,
  most: number,
): number {
  const number = /^[0-9]+$/.test(value) ? Number(value) : NaN;
  if (number >= least && number <= most) return number;
  throw new Error(
    `${option} must be a whole number from ${least} to ${most}, ` +
      `not ${JSON.stringify(value)}`,
  );
}

/** Reads options, or ends the process with a message and exit code 2. */
export function readOptions<T>(program: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    fail(program, `${messageOf(error)} (--help shows the options)`, 2);
  }
}
