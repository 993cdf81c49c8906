// What happened, newest first; on a VM's page only its own.
import { h, VNode } from "../vdom";
import { PairEvent } from "../api";
import { HookActions, HooksCard } from "./hooks";
import { Icon } from "../icons";
import { store } from "../store";
import * as format from "../format";

export function EventList(props: { events: PairEvent[]; showPair: boolean }): VNode {
  if (props.events.length === 0) return <p class="muted quiet">Nothing has happened yet.</p>;
  return (
    <ol class="events">
      {props.events.map((event) => (
        <li class={`event severity-${event.severity}`} key={event.id}>
          <time title={format.dateTime(event.time_unix_ms)}>{format.moment(event.time_unix_ms)}</time>
          <Icon name={event.severity} label={event.severity} />
          <div class="event-body">
            <span class="event-code">{format.title(event.code)}</span>
            <span class="event-site">
              {props.showPair ? `${event.pair} at ${event.site}` : event.site}
            </span>
            <p>{event.text.replace(/ -> /g, " → ")}</p>
          </div>
        </li>
      ))}
    </ol>
  );
}

const kRank: { [severity: string]: number } = { info: 1, warning: 2, error: 3 };

export function EventsPage(props: { draw: () => void; more: () => void; hooks: HookActions }): VNode {
  const shown = store.events.filter((event) => kRank[event.severity] >= kRank[store.severity]);
  const choice = (value: string, text: string) => (
    <button class={`segment ${store.severity === value ? "on" : ""}`} aria-pressed={String(store.severity === value)}
            onclick={() => { store.severity = value; props.draw(); }}>{text}</button>
  );
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head">
        <h1>Events</h1>
        <div class="segments" role="group" aria-label="Least severity">
          {choice("info", "All")}{choice("warning", "Warnings")}{choice("error", "Errors")}
        </div>
      </div>
      <HooksCard actions={props.hooks} />
      <section class="card" key="events"><EventList events={shown} showPair={true} /></section>
      {store.eventsComplete ? null
        : <button class="button more" onclick={props.more}>Show older events</button>}
    </main>
  );
}
