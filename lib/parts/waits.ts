// SPDX-License-Identifier: 0BSD

/** Waits that end. */

/**
 * A promise's value, or undefined if it takes longer than `timeout` seconds in
 * which nothing moves.
 *
 * Time is counted in tenths, so that a machine too busy to run this program
 * does not count as a slow service.
 *
 * @param moved Gives something that is another one as soon as something moves.
 */
export async function within<T>(
  timeout: number,
  promise: Promise<T>,
  moved: () => unknown = () => undefined,
): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  let tenths = 0;
  let last = moved();
  const clock = setInterval(() => {
    const now = moved();
    tenths = now === last ? tenths + 1 : 0;
    last = now;
    if (tenths > 10) late.resolve(undefined);
  }, 100 * timeout);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearInterval(clock);
  }
}
