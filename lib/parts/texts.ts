// SPDX-License-Identifier: 0BSD

/** Texts to measure with: the same words, in the same order, on every machine. */

import { Buffer } from "node:buffer";

/**
 * A few sentences of each kind of text, by its name in lower case: `ascii` is
 * English, most others are the Universal Declaration of Human Rights, article 1
 * (https://www.ohchr.org/en/human-rights/universal-declaration/translations).
 */
export const SENTENCES: Record<string, string> = {
  ascii:
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood.",
  italian:
    "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza. Perché la città è così bella?",
  german:
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. Die Straße ist groß und weiß.",
  greek:
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
  russian:
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.",
  turkish:
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
  chinese:
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
  emoji:
    "ciao 😀👍🏽 come va? 🎉🎉 bene ❤️ 👨‍👩‍👧‍👦 ok 😂😂😂 a dopo 👋🏻 perché no? 🙈 notte 🌙✨",
};

/**
 * Whole lines of the words of a text, in an order that is random, so that a
 * processor cannot learn where its branches go, and the same each time. Text
 * that has no spaces is mixed by characters.
 *
 * @param name One of the names in {@linkcode SENTENCES}.
 * @param length How many bytes of UTF-8; the last line may go beyond.
 */
export function lines(name: string, length: number): string {
  const sentences = SENTENCES[name]!;
  const space = sentences.includes(" ") ? " " : "";
  const words = sentences.split(space);
  let seed = 1;
  const random = () => {
    // A linear congruential generator; its low bits are the poor ones.
    seed = Math.imul(seed, 1103515245) + 12345;
    return words[(seed >>> 8) % words.length];
  };
  let text = "";
  for (let bytes = 0; bytes < length;) {
    const line = Array.from({ length: 12 }, random).join(space) + "\n";
    bytes += Buffer.byteLength(line);
    text += line;
  }
  return text;
}
