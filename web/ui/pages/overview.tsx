// One row a VM: what it is, why, and the four numbers that matter.
import { h, VNode } from "../vdom";
import { Summary } from "../api";
import { lastDrill } from "./drills";
import { Badge, Icon, MoodIcon } from "../icons";
import { siteWord } from "../topology";
import { nowUnixMs, store } from "../store";
import * as format from "../format";

function Tally(props: { items: Summary[] }): VNode {
  const of = (mood: string) => props.items.filter((item) => item.mood === mood).length;
  const good = of("good");
  const trouble = of("bad") + of("unknown");
  const watch = of("warning") + of("busy");
  const all = props.items.length;
  const mood = trouble ? "bad" : watch ? "warning" : "good";
  const sentence = trouble ? `${trouble} of ${all} ${all === 1 ? "VM needs" : "VMs need"} you now`
    : watch ? `${watch} of ${all} ${all === 1 ? "VM is" : "VMs are"} not fully protected`
    : all === 1 ? "The VM is protected" : `All ${all} VMs are protected`;
  const parts: [number, string][] = [[trouble, "in trouble"], [watch, "to watch"], [good, "protected"]];
  return (
    <section class={`banner mood-${mood}`}>
      <MoodIcon mood={mood} class="banner-icon" />
      <div class="banner-text">
        <h1>{sentence}</h1>
        <p>{parts.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}`).join(", ")}</p>
      </div>
    </section>
  );
}

function Where(props: { summary: Summary }): VNode {
  return (
    <span class="where">
      {props.summary.sites.map((site, index) => [
        index > 0 ? <span class="where-link" aria-hidden="true">{props.summary.link_up ? "⇄" : "⇹"}</span> : null,
        <span class={`where-site ${site.holds_vm ? "holds-vm" : ""}`}>
          <b>{site.site}</b> {siteWord(site.word).toLowerCase()}
        </span>,
      ])}
    </span>
  );
}

function Row(props: { summary: Summary; open: (path: string) => void }): VNode {
  const { summary } = props;
  const href = `/vms/${encodeURIComponent(summary.name)}`;
  const alerts = summary.alerts ?? [];
  const drill = lastDrill(summary.name);
  return (
    <li class={`vm-row mood-${summary.mood}`} key={summary.name}>
      <a href={href} onclick={(event: MouseEvent) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        props.open(href);
      }}>
        <div class="vm-main">
          <div class="vm-title">
            <span class="vm-name">{summary.name}</span>
            <Badge mood={summary.mood} text={siteWord(summary.word)} />
            <span class="muted">for {format.since(summary.since_unix_ms, nowUnixMs())}</span>
          </div>
          <p class="vm-reason">{format.sentence(summary.reason)}</p>
          <Where summary={summary} />
          {drill ? <p class="muted last-drill">Last drill {format.since(drill.ended_unix_ms!, nowUnixMs())} ago: {drill.verdict}</p> : null}
          {alerts.map((alert) => (
            <p class={`vm-alert severity-${alert.severity}`}>
              <Icon name={alert.severity} /> {alert.text}
            </p>
          ))}
        </div>
        <dl class="vm-facts">
          <div><dt title="What a loss of the VM's site would lose now, as time">RPO now</dt>
               <dd>{summary.rpo_seconds === 0 ? "0" : format.duration(summary.rpo_seconds)}</dd></div>
          <div><dt>Lag</dt><dd>{format.seconds(summary.lag_seconds)}</dd></div>
          <div><dt>Output delay</dt><dd>{format.seconds(summary.output_delay_p50_seconds)}</dd></div>
          <div><dt>Log</dt><dd>{format.bytes(summary.log_bytes_per_second, true)}</dd></div>
          <div><dt>RTT</dt><dd>{format.seconds(summary.rtt_seconds)}</dd></div>
        </dl>
        <Icon name="chevron" class="vm-chevron" />
      </a>
    </li>
  );
}

export function OverviewPage(props: { open: (path: string) => void }): VNode {
  const overview = store.overview;
  if (!overview) return <main id="main" class="page" tabindex="-1"><p class="loading">Asking the replicators…</p></main>;
  if (overview.items.length === 0) {
    return (
      <main id="main" class="page" tabindex="-1">
        <section class="empty card">
          <Icon name="server" />
          <h1>No protected VM on this host</h1>
          <p>A VM appears here as soon as its replicator runs: <code>systemctl start antipode-replicator@NAME</code></p>
        </section>
      </main>
    );
  }
  const rank: { [mood: string]: number } = { bad: 0, unknown: 1, warning: 2, busy: 3, good: 4 };
  const items = [...overview.items].sort((a, b) => rank[a.mood] - rank[b.mood] || a.name.localeCompare(b.name));
  return (
    <main id="main" class="page" tabindex="-1">
      <Tally items={overview.items} />
      <ul class="vm-list" aria-label="Protected VMs">
        {items.map((summary) => <Row summary={summary} open={props.open} />)}
      </ul>
    </main>
  );
}
