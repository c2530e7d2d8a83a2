/* An answer as a file: text, SubRip or WebVTT. Segments are {start, end, text}, in seconds. */

const time = (seconds, point) => {
  const whole = Math.round(seconds * 1000);
  const part = (value, digits = 2) => String(Math.floor(value)).padStart(digits, "0");
  const [hours, minutes, rest] = [whole / 3_600_000, (whole / 60_000) % 60, (whole / 1000) % 60];
  return `${part(hours)}:${part(minutes)}:${part(rest)}${point}${part(whole % 1000, 3)}`;
};

/* Segments that have text, each with it in one line: an empty one would end a cue. */
const cues = (segments) =>
  segments
    .map(({ text, ...times }) => ({ ...times, text: text.trim().replace(/\s+/g, " ") }))
    .filter(({ text }) => text);

/* In WebVTT these three begin markup, and an arrow ends the text. */
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

export const asText = (text) => `${text.trim()}\n`;

const times = ({ start, end }, point) => `${time(start, point)} --> ${time(end, point)}`;

export const asSrt = (segments) =>
  cues(segments)
    .map((cue, i) => `${i + 1}\n${times(cue, ",")}\n${cue.text.replaceAll("-->", "->")}\n`)
    .join("\n");

export const asVtt = (segments) =>
  ["WEBVTT\n"].concat(cues(segments).map((cue) => `${times(cue, ".")}\n${escaped(cue.text)}\n`)).join("\n");

export function save(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
