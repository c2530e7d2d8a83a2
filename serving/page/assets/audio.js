/* Samples of a recording, as the browser decodes them: for its waveform, and as WAV that any server reads. */

const RATE = 16_000; // Hz, which speech models hear
const HEADER = 44; // bytes

/* Mono samples of a blob at 16 kHz, or null where this browser cannot read it. */
export async function decoded(blob) {
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    return mixed(await context.decodeAudioData(await blob.arrayBuffer()));
  } catch {
    return null;
  }
}

function mixed(buffer) {
  const samples = buffer.getChannelData(0), channels = buffer.numberOfChannels;
  if (channels === 1) return samples;
  const sum = samples.slice();
  for (let channel = 1; channel < channels; channel++)
    buffer.getChannelData(channel).forEach((value, i) => (sum[i] += value));
  return sum.map((value) => value / channels);
}

/* 16-bit WAV of mono samples at 16 kHz. */
export function wav(samples) {
  const bytes = new DataView(new ArrayBuffer(HEADER + 2 * samples.length));
  const text = (place, word) => [...word].forEach((one, i) => bytes.setUint8(place + i, one.charCodeAt(0)));
  text(0, "RIFF"), bytes.setUint32(4, HEADER - 8 + 2 * samples.length, true);
  text(8, "WAVEfmt "), bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true), bytes.setUint16(22, 1, true); // PCM, one channel
  bytes.setUint32(24, RATE, true), bytes.setUint32(28, 2 * RATE, true);
  bytes.setUint16(32, 2, true), bytes.setUint16(34, 16, true); // bytes of a frame, bits of a sample
  text(36, "data"), bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => bytes.setInt16(HEADER + 2 * i, 32767 * Math.max(-1, Math.min(1, value)), true));
  return new Blob([bytes], { type: "audio/wav" });
}

export const secondsOf = (samples) => samples.length / RATE;

/* How loud each of `count` stretches is (the mean of its squares, rooted), the loudest being 1. */
export function levelsOf(samples, count) {
  const sums = new Float64Array(count), stretch = samples.length / count;
  for (let i = 0; i < samples.length; i++) sums[Math.floor(i / stretch)] += samples[i] * samples[i];
  const loudest = sums.reduce((a, b) => Math.max(a, b), 1e-6);
  return sums.map((sum) => Math.sqrt(sum / loudest));
}
