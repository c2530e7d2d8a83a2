/* The microphone, until it is stopped. */

const LEVEL_GAIN = 4; // speech at an arm's length then fills about half of the meter

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder);

/* Begin to record. `shown` is told seconds and level (0 to 1) as time goes on; `stop` of the result gives the blob. */
export async function record(shown) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const recorder = new MediaRecorder(stream, { audioBitsPerSecond: 128_000 });
  const parts = [], began = performance.now(), context = new AudioContext();
  const level = meter(context, stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
  const ticking = setInterval(() => shown((performance.now() - began) / 1000, level()), 100);
  recorder.start();
  return {
    ended,
    async stop() {
      clearInterval(ticking);
      if (recorder.state !== "inactive") recorder.stop();
      await ended;
      for (const track of stream.getTracks()) track.stop();
      await context.close();
      return new Blob(parts, { type: recorder.mimeType });
    },
  };
}

function meter(context, stream) {
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  return () => {
    analyser.getFloatTimeDomainData(samples);
    return Math.min(1, LEVEL_GAIN * Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length));
  };
}
