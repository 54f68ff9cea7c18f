// Asks the server; the answer comes in parts.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const token = sessionStorage.getItem("token");
  return { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
}

async function checked(answer) {
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error?.message ?? answer.statusText);
}

export async function models() {
  const answer = await checked(await fetch("/v1/models", { headers: headers() }));
  return (await answer.json()).data;
}

// Asks a question about an image, a data: URL; tells of text as it comes.
// Returns what the last part has, and how many tokens there are.
export async function ask({ model, prompt, image }, tell, signal) {
  const content = [{ type: "text", text: prompt }, { type: "image_url", image_url: { url: image } }];
  const body = { model, messages: [{ role: "user", content }], stream: true, stream_options: { include_usage: true } };
  const options = { method: "POST", headers: headers(), body: JSON.stringify(body), signal };
  const answer = await checked(await fetch("/v1/chat/completions", options));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", text = "";
  const found = { objects: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused(0, "the answer broke off");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return { ...found, text };
      const part = JSON.parse(data);
      if (part.error) throw new Refused(0, part.error.message);
      if (part.usage) found.tokens = part.usage.completion_tokens;
      const choice = part.choices[0];
      if (choice?.delta.content) tell((text += choice.delta.content));
      if (choice?.finish_reason) Object.assign(found, { objects: choice.delta.objects, seconds: part.seconds, reason: choice.finish_reason });
    }
  }
}
