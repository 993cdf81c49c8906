// Whom web.toml tells of events, how each went last, and a try.
import { h, VNode } from "../vdom";
import { ApiError, get, Page, send } from "../api";
import { Icon } from "../icons";
import { may, store } from "../store";
import * as format from "../format";

export interface HookResult {
  id: number; hook: string; pair: string; site: string; event: string; attempt: number; outcome: string; text: string;
  output: string; began_unix_ms: number; took_ms: number;
}
export interface Hook {
  name: string; events: string[]; pairs: string[]; target: string; time_limit_seconds: number; attempts: number;
  last: HookResult | null;
}

const kMood: { [outcome: string]: string } = { ok: "good", failed: "bad", dropped: "warning" };

export class HookActions {
  constructor(readonly draw: () => void) {}
  async load(): Promise<void> {
    store.hooks = (await get<Page<Hook>>("/api/v1/hooks")).items;
  }
  async test(name: string): Promise<void> {
    store.hookError = "";
    try {
      await send("POST", `/api/v1/hooks/${encodeURIComponent(name)}/test`);
      await this.load();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      store.hookError = error.message;
    }
    this.draw();
  }
}

function Last(props: { result: HookResult | null }): VNode {
  const { result } = props;
  if (!result) return <span class="muted">not told yet</span>;
  const mood = kMood[result.outcome] ?? "unknown";
  return (
    <span class={`mood-${mood}`}>
      <Icon name={mood} class="mood-icon" label={result.outcome} /> {format.title(result.outcome)}: {result.text}
      <span class="muted"> {result.event} of {result.pair}, {format.moment(result.began_unix_ms)}, attempt {result.attempt}</span>
    </span>
  );
}

export function HooksCard(props: { actions: HookActions }): VNode | null {
  if (store.hooks.length === 0) return null;
  return (
    <section class="card" key="hooks">
      <h2><Icon name="swap" />Hooks</h2>
      {store.hookError ? <p class="alert severity-error" role="alert"><Icon name="error" /><span>{store.hookError}</span></p> : null}
      <ul class="drill-list">
        {store.hooks.map((hook) => (
          <li key={hook.name}>
            <b>{hook.name}</b>
            <span><span class="muted">{hook.events.join(", ")} → {hook.target}</span><br /><Last result={hook.last} /></span>
            <span class="drill-buttons">
              {may("admin") ? <button class="button small" onclick={() => props.actions.test(hook.name)}>Try</button> : null}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
