/* The page: a recording, what is asked about it, and the board of answers. */

import { key, models } from "./api.js";
import { Board } from "./board.js";
import { Player, clipOf } from "./clip.js";
import { clock, counted, find, make } from "./dom.js";
import { canRecord, record } from "./recorder.js";

const MOST_BEAMS = 8;
const COLOURS = ["#767b82", "#0072b2", "#d55e00", "#009e73", "#c05f95", "#a87900", "#7b68c8", "#3d93c4"];

let clip = null, recording = null, offered = []; // offered: {model, label, colour} of each profile
let decoding = null; // the file that becomes the clip
let asking = false; // for the microphone

const player = new Player((place) => board.hear(place));
const board = new Board({
  changed: showState,
  wantsKey,
  play: (place) => player.playFrom(place),
  marked: (segments) => player.mark(segments),
});

function chosen() {
  const ticked = [...document.querySelectorAll("#profiles input:checked")].map((box) => box.value);
  return offered.filter(({ model }) => ticked.includes(model));
}

function showState(busy = board.busy, cards = find("cards").childElementCount) {
  const count = chosen().length;
  find("run").textContent = count > 1 ? `Compare ${count} profiles` : "Transcribe";
  find("run").disabled = !clip || !count || recording !== null || decoding !== null;
  find("run").hidden = busy;
  find("cancel").hidden = !busy;
  find("empty").hidden = cards > 0;
  find("hint").textContent = hint(count, cards);
}

function hint(count, cards) {
  if (!offered.length) return "";
  if (recording) return "Stop the recording first.";
  if (decoding) return "The recording is being read.";
  if (!clip) return "Choose a file or record one first.";
  if (!count) return "Tick a profile.";
  if (offered.length > 1 && count === 1) return "Tick another profile to compare the two.";
  return cards && count > 1 ? "They answer one after the other, so none slows down another." : "";
}

/* Recording */

async function take(blob, name, asWav = false) {
  note("");
  decoding = blob;
  showState();
  const found = await clipOf(blob, name, asWav);
  if (decoding !== blob) return; // another one was taken meanwhile
  [clip, decoding] = [found, null];
  board.clear();
  player.load(clip);
  if (asWav && !clip.samples) note("This browser cannot decode what it has recorded. Record with another one, or choose a file.");
  else if (clip.seconds === null) note("This browser cannot play the file. The server may still read it.");
  find("drop").classList.add("again");
  find("drop-label").textContent = "Choose another file";
  showState();
}

function note(text) {
  find("clip-note").textContent = text;
  find("clip-note").hidden = !text;
}

async function toggleRecording() {
  if (recording) return stopRecording();
  if (asking) return undefined;
  const place = find("record-note");
  place.hidden = true;
  asking = true;
  try {
    recording = await record(showLevel);
  } catch (fault) {
    place.textContent = MICROPHONE[fault.name] ?? `The microphone cannot be used: ${fault.message}`;
    place.hidden = false;
    return undefined;
  } finally {
    asking = false;
  }
  recording.ended.then(() => recording && stopRecording());
  showRecording();
  return undefined;
}

const MICROPHONE = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it in the settings of this page.",
  NotFoundError: "There is no microphone. Connect one, or choose a file.",
  NotReadableError: "Another program uses the microphone. Close it and try again.",
};

async function stopRecording() {
  const ended = recording;
  recording = null;
  showRecording();
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  await take(await ended.stop(), `recording-${time}.wav`, true);
}

function showRecording() {
  find("record").setAttribute("aria-pressed", recording !== null);
  find("level").hidden = recording === null;
  find("record-label").textContent = recording ? "Stop · 0:00.0" : "Record";
  showState();
}

function showLevel(seconds, level) {
  if (!recording) return;
  find("record-label").textContent = `Stop · ${clock(seconds)}`;
  find("level").value = level;
}

/* Profiles, beams and key */

async function askProfiles() {
  const place = find("profiles-note");
  try {
    const names = (await models()).map(({ id }) => id);
    find("key-field").hidden = !key.get();
    showProfiles(names);
  } catch (fault) {
    place.hidden = false;
    place.textContent = `${fault.title} ${fault.message}`;
    if (fault.status === 401) wantsKey();
  }
  showState();
}

function showProfiles(names) {
  const several = new Set(names.map((name) => name.split(":")[0])).size > 1;
  const label = (name) => (several ? name : name.slice(name.indexOf(":") + 1));
  offered = names.map((model, i) => ({ model, label: label(model), colour: COLOURS[i % COLOURS.length] }));
  find("profiles-note").hidden = offered.length > 0;
  find("profiles-note").textContent = "The server has no profile.";
  for (const old of document.querySelectorAll("#profiles .chip")) old.remove();
  find("profiles").append(...offered.map(chip));
}

function chip({ model, label, colour }, i) {
  const box = make("input", { type: "checkbox", value: model, checked: i === 0, onchange: () => showState() });
  const found = make("label.chip", {}, box, make("i.dot"), make("span", {}, label));
  found.style.setProperty("--own", colour);
  return found;
}

function wantsKey() {
  find("key-field").hidden = false;
  find("key").focus();
}

async function useKey() {
  key.set(find("key").value.trim());
  if (!offered.length) await askProfiles();
  board.askRefused();
}

function showBeams() {
  const counts = Array.from({ length: MOST_BEAMS }, (_, i) => i + 1);
  find("beams").append(...counts.map((count) => new Option(counted(count, "beam"), count)));
  for (const id of ["beams", "segments"]) find(id).addEventListener("change", showArrival);
  showArrival();
}

/* Text comes in pieces where the search is greedy; a recording beyond a window is cut in any case. */
function showArrival() {
  const whole = "when the search has ended; of a long recording, segment by segment";
  const byBeams = find("segments").checked ? "segment by segment" : whole;
  find("arrival").textContent = `Text arrives ${find("beams").value === "1" ? "word by word" : byBeams}.`;
}

/* Wiring */

function ask() {
  const asked = {
    clip,
    beams: Number(find("beams").value),
    prompt: find("prompt").value.trim(),
    inSegments: find("segments").checked,
  };
  for (const profile of chosen()) board.ask({ ...profile, ...asked });
  if (matchMedia("(max-width: 52rem)").matches) find("results").scrollIntoView();
}

function wire() {
  find("drop").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", ({ target }) => {
    if (target.files.length) take(target.files[0], target.files[0].name);
    target.value = "";
  });
  find("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  find("cancel").addEventListener("click", () => board.cancel());
  find("use-key").addEventListener("click", useKey);
  find("key").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    useKey();
  });
  find("record").addEventListener("click", toggleRecording);
  if (!canRecord()) {
    find("record").disabled = true;
    find("record-note").textContent = "To record, open this page by https or on localhost: browsers lend the microphone to no other.";
    find("record-note").hidden = false;
  }
  wireDrop();
}

function wireDrop() {
  const over = (event, inside) => {
    event.preventDefault();
    document.body.classList.toggle("over", inside);
  };
  addEventListener("dragover", (event) => over(event, true));
  addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
  addEventListener("drop", (event) => {
    over(event, false);
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
  });
}

wire();
showBeams();
askProfiles();
