/* What the page asks of the server, and its faults in words. All addresses are relative to the page.

   The messages of the server say what to do; the remedies here stand for those that are missing. */

const KEPT = "fastadasp-key";

const FAULTS = {
  400: ["The server cannot take this request", "Change what it names and try again."],
  401: ["This server wants an API key", "Enter it on the left: the request is then made again."],
  403: ["The server does not answer this page", "Open it on the machine that the server runs on, or start it with a key."],
  404: ["The server does not have this", "Reload the page to see which profiles there are now."],
  408: ["The request took too long", "Take a shorter recording, fewer beams or a profile that removes more."],
  413: ["The recording is too large for this server", "Take a shorter one, or one of a smaller format."],
  415: ["The server cannot read this kind of audio", "Send it as WAV, or choose another file."],
  429: ["The server is busy", "Try again in a moment."],
  503: ["The server is busy", "Try again in a moment."],
  504: ["The request took too long", "Take a shorter recording, fewer beams or a profile that removes more."],
};
/* What the code of a fault in mid-stream, or else its type, would be as a status; any other is `FAILED`. */
const STATUSES = { deadline_exceeded: 504, overloaded: 503, invalid_request_error: 400 };
const FAILED = ["The server failed", "Try again; if it happens again, its log says why."];
const GONE = ["The server does not answer", "See whether it still runs, and try again."];
const CUT = ["The connection ended before the answer", "Try again; what had arrived is kept above."];

export class Fault extends Error {
  constructor([title, remedy], { message = "", status = 0, param = null, after = null } = {}) {
    super(message || remedy);
    Object.assign(this, { title: `${title}.`, status, param, after });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (value) => sessionStorage.setItem(KEPT, value),
};

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

/* Ids of the profiles, as NAME:PROFILE. */
export async function models() {
  const response = await asked("v1/models", { headers: headers() });
  return (await response.json()).data;
}

/* Events of one transcription: first {type: "answering", …} with what the headers say, then those of the stream. */
export async function* transcription({ clip, model, beams, prompt, inSegments }, signal) {
  const form = new FormData();
  const fields = { model, num_beams: beams, stream: "true" };
  if (prompt) fields.prompt = prompt;
  if (inSegments) fields.chunking_strategy = "auto";
  for (const [field, value] of Object.entries(fields)) form.append(field, value);
  form.append("file", clip.blob, clip.name); // last: what it is asked comes before it
  const response = await asked("v1/audio/transcriptions", { method: "POST", body: form, headers: headers(), signal });
  const { headers: told } = response;
  yield { type: "answering", profile: told.get("x-fastadasp-profile"), reason: told.get("x-fastadasp-reason") };
  let answered = false;
  for await (const data of serverEvents(response.body)) {
    if (data === "[DONE]") continue;
    const event = JSON.parse(data);
    const { error } = event;
    if (error) throw new Fault(FAULTS[STATUSES[error.code] ?? STATUSES[error.type]] ?? FAILED, error);
    answered ||= event.type === "transcript.text.done";
    yield event;
  }
  if (!answered) throw new Fault(CUT);
}

async function asked(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Fault(GONE);
  }
  if (!response.ok) throw await faultOf(response);
  return response;
}

async function faultOf(response) {
  const { status } = response;
  const told = await response.json().then((body) => body.error ?? {}, () => ({}));
  const after = Number(response.headers.get("retry-after")) || null;
  return new Fault(FAULTS[status] ?? FAILED, { ...told, status, after });
}

/* The data of each server-sent event of a body. */
async function* serverEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch((fault) => {
      if (fault.name === "AbortError") throw fault;
      throw new Fault(CUT);
    });
    if (done) return;
    held += value.replace(/\r/g, "");
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
