// SPDX-License-Identifier: 0BSD

/**
 * What the programs of this folder read from the command line in the same way.
 *
 * @module
 */

import type { Address } from "./tcp.ts";

/**
 * Reads `--hostname` and `--port` as they were given.
 *
 * @throws {Error} for an empty name, and a port that is no whole number from 1
 * to 65535
 *
 * @example
 * ```ts
 * import { readAddress } from "./options.ts";
 *
 * const { hostname, port } = readAddress({ hostname: "[::1]", port: "80" });
 * if (hostname !== "::1" || port !== 80) throw new Error();
 * ```
 */
export function readAddress(
  values: { hostname: string; port: string },
): Address {
  const hostname = values.hostname.replace(/^\[(.*)\]$/, "$1"); // [::1] is ::1
  if (hostname === "") throw new Error("--hostname must not be empty");
  return { hostname, port: wholeNumber("--port", values.port, 1, 65535) };
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

/** An error's message in one line. */
export function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll("\n", " ");
}
