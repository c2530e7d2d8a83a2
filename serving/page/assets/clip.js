/* The chosen recording: heard, drawn, and played from any place. */

import { decoded, levelsOf, secondsOf, wav } from "./audio.js";
import { clock, find, size } from "./dom.js";

const LONGEST_DRAWN = 1800; // seconds: the samples of more would fill the memory of a phone
const BAR = 3, GAP = 1.5; // pixels

/* A recording as it is sent. `samples` are those of `decoded`, or null: too long to draw, or not readable here;
   `asWav` gives the same as WAV, which the server reads whatever is installed, where there are samples. */
export async function clipOf(blob, name, asWav = false) {
  const seconds = await durationOf(blob);
  const samples = seconds !== null && seconds > LONGEST_DRAWN ? null : await decoded(blob);
  const known = { samples, seconds: samples ? secondsOf(samples) : seconds };
  const converted = () => ({ ...known, name: `${name.replace(/\.[^.]*$/, "")}.wav`, blob: wav(samples), asWav: null });
  if (asWav && samples) return converted();
  return { ...known, name, blob, asWav: samples && converted };
}

/* What the browser says before it has decoded anything; null if it cannot, or for a stream without a length. */
function durationOf(blob) {
  const audio = new Audio(), url = URL.createObjectURL(blob);
  return new Promise((resolve) => {
    audio.addEventListener("loadedmetadata", () => resolve(Number.isFinite(audio.duration) ? audio.duration : null));
    audio.addEventListener("error", () => resolve(null));
    audio.src = url;
  }).finally(() => URL.revokeObjectURL(url));
}

const lengthOf = (value) => (value < 60 ? `${value.toFixed(1)} s` : `${clock(value)} min`);

export class Player {
  #audio = find("audio");
  #seek = find("seek");
  #play = find("play");
  #canvas = find("wave");
  #clip = null;
  #levels = null;
  #marked = [];

  /* `heard` is told the seconds that are played, or null when nothing is. */
  constructor(heard) {
    const tell = () => {
      this.#show();
      heard(this.#audio.paused ? null : this.#audio.currentTime);
    };
    for (const event of ["play", "pause", "seeked", "ended", "loadedmetadata"])
      this.#audio.addEventListener(event, tell);
    this.#audio.addEventListener("play", () => this.#follow(tell));
    this.#play.addEventListener("click", () => this.#toggle());
    this.#seek.addEventListener("input", () => (this.#audio.currentTime = Number(this.#seek.value)));
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  load(clip) {
    URL.revokeObjectURL(this.#audio.src);
    this.#clip = clip;
    this.#marked = [];
    this.#levels = null;
    this.#audio.src = URL.createObjectURL(clip.blob);
    find("clip-name").textContent = clip.name;
    const length = clip.seconds === null ? "length unknown" : lengthOf(clip.seconds);
    find("clip-facts").textContent = `${length} · ${size(clip.blob.size)}`;
    find("clip").hidden = false;
    this.#canvas.parentElement.hidden = !clip.samples;
    this.#play.parentElement.hidden = clip.seconds === null;
    this.#seek.max = clip.seconds ?? 0;
    this.#show();
    this.#draw();
  }

  playFrom(seconds) {
    if (this.#clip.seconds === null) return;
    this.#audio.currentTime = seconds;
    this.#start();
  }

  /* Draw these segments under the waveform. */
  mark(segments) {
    this.#marked = segments;
    this.#draw();
  }

  #toggle() {
    if (this.#audio.paused) this.#start();
    else this.#audio.pause();
  }

  /* Playing that ends before it has begun, by a pause or another recording, is no fault. */
  async #start() {
    await this.#audio.play().catch((fault) => {
      if (fault.name !== "AbortError") throw fault;
    });
  }

  #follow(tell) {
    const step = () => {
      if (this.#audio.paused) return;
      tell();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #show() {
    const place = this.#audio.currentTime;
    this.#seek.value = place;
    this.#seek.setAttribute("aria-valuetext", `${place.toFixed(1)} seconds`);
    this.#play.setAttribute("aria-label", this.#audio.paused ? "Play" : "Pause");
    this.#play.classList.toggle("playing", !this.#audio.paused);
    find("clock").textContent = `${clock(place)} of ${clock(this.#clip?.seconds ?? 0)}`;
    this.#draw();
  }

  #draw() {
    const samples = this.#clip?.samples;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!samples || !width) return;
    const bars = Math.floor(width / (BAR + GAP)), scale = devicePixelRatio;
    if (this.#levels?.length !== bars) this.#levels = levelsOf(samples, bars);
    if (this.#canvas.width !== Math.round(width * scale)) this.#canvas.width = Math.round(width * scale);
    if (this.#canvas.height !== Math.round(height * scale)) this.#canvas.height = Math.round(height * scale);
    const pen = this.#canvas.getContext("2d"), style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name);
    const x = (seconds) => (seconds / this.#clip.seconds) * width;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("--accent");
    for (const { start, end } of this.#marked) pen.fillRect(x(start) + 0.5, height - 3, Math.max(1, x(end) - x(start) - 1), 3);
    const played = x(this.#audio.currentTime), middle = (height - 6) / 2;
    this.#levels.forEach((level, i) => {
      const left = i * (BAR + GAP), half = Math.max(1, level * (middle - 1));
      pen.fillStyle = colour(left < played ? "--accent" : "--wave");
      pen.beginPath();
      pen.roundRect(left, middle - half, BAR, 2 * half, BAR / 2);
      pen.fill();
    });
  }
}
