// SPDX-License-Identifier: 0BSD

/** The command line: options, and what a person gets to read after a mistake. */

import { type Address, format, type NoConnection } from "./tcp.ts";

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

/** Shows how a program is used, and ends the process. */
export function help(usage: string): never {
  console.log(usage);
  Deno.exit(0);
}

/** An error's message in one line. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll("\n", " ");
}

/** Says in one line what went wrong, and ends the process. */
export function fail(program: string, message: string, code = 1): never {
  console.error(`${program}: ${message}`);
  Deno.exit(code);
}

/** Says for a person at the keyboard that there is no service. */
export function noService(address: Address, error: NoConnection): string {
  const message = messageOf(error);
  const list = Deno.build.os === "linux" ? "ss -tuln" : "netstat -an";
  const hint = error.nothingListens
    ? "; start the server first, and give its --port, and its --hostname if " +
      `it is another one (::1, 127.0.0.2): ${list} shows what listens, and ` +
      "a UDP server is no TCP server"
    : "";
  return `no service at ${format(address)}: ${message}${hint}`;
}
