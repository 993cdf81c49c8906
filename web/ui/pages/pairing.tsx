// Pairing this site with another: a code is made here and typed there, or the other way round.
import { ApiError, get, send } from "../api";
import { Field } from "../dialog";
import { Icon } from "../icons";
import { may, nowUnixMs, store } from "../store";
import { h, VNode } from "../vdom";
import * as format from "../format";

export interface PairingStep { name: string; state: "running" | "good" | "warning" | "failed"; text: string; }
export interface Pairing {
  pair: string; site: string; peer_site: string; state: "offered" | "joining" | "paired" | "failed";
  steps: PairingStep[]; tiebreaker: string; peer_host: string; peer_port: number; peer_fingerprint: string;
  changed_unix_ms: number; expires_unix_ms: number | null;
}
export interface PairingView {
  items: Pairing[]; vms: { name: string; paired: boolean }[];
  site: string; address: string; tiebreaker: string; reachable: boolean;
}
export interface PairingState {
  view: PairingView | null;
  code: string;      // the one that was made here, shown until it is used or has expired
  codeOf: string;
  error: string;
  saved: string;
  busy: boolean;
  asking: { pair: string; what: "unpair" | "rekey"; typed: string } | null;
}
export const kNoPairing: PairingState = { view: null, code: "", codeOf: "", error: "", saved: "", busy: false, asking: null };

const kStepTitle: { [name: string]: string } = {
  tiebreaker: "Tiebreaker", code: "Code", hello: "Other site", connect: "Other site", clocks: "Clocks", line: "Line",
  finish: "Finish", end: "End",
};
const kStepMood: { [state: string]: string } = { running: "busy", good: "good", warning: "warning", failed: "bad" };
const kStateMood: { [state: string]: string } = { offered: "busy", joining: "busy", paired: "good", failed: "bad" };

export class PairingActions {
  constructor(readonly draw: () => void) {}

  async load(): Promise<void> {
    const view = await get<PairingView>("/api/v1/pairings");
    store.pairing.view = view;
    const offered = view.items.find((item) => item.pair === store.pairing.codeOf);
    if (!offered || offered.state !== "offered") store.pairing.code = "";
    this.draw();
  }

  async attempt(work: () => Promise<void>): Promise<void> {
    Object.assign(store.pairing, { error: "", saved: "", busy: true });
    this.draw();
    try {
      await work();
    } catch (error) {
      store.pairing.error = error instanceof ApiError ? format.sentence(error.message) : String(error);
    }
    store.pairing.busy = false;
    await this.load();
  }

  offer(data: FormData): Promise<void> {
    return this.attempt(async () => {
      const pair = String(data.get("pair"));
      const made = await send<{ code: string }>("POST", "/api/v1/pairings/offers", { pair, ...place(data) });
      store.pairing.code = made.code;
      store.pairing.codeOf = pair;
    });
  }
  join(data: FormData): Promise<void> {
    return this.attempt(async () => {
      await send("POST", "/api/v1/pairings", { code: data.get("code"), ...place(data) });
    });
  }
  withdraw(pair: string): Promise<void> {
    return this.attempt(async () => { await send("DELETE", `/api/v1/pairings/${pair}`); });
  }
  change(): Promise<void> {
    const { pair, what, typed } = store.pairing.asking!;
    return this.attempt(async () => {
      const done = await send<{ text: string }>("POST", `/api/v1/pairings/${pair}/${what}`, { confirm: typed });
      store.pairing.asking = null;
      store.pairing.saved = format.sentence(done.text);
    });
  }
}

function place(data: FormData): { [name: string]: unknown } {
  const out: { [name: string]: unknown } = {};
  for (const name of ["site", "address", "tiebreaker"]) if (data.get(name)) out[name] = data.get(name);
  if (data.get("port")) out.port = Number(data.get("port"));
  return out;
}

function Place(props: { view: PairingView; tiebreaker: string }): VNode[] {
  const { view } = props;
  return [
    <Field label="This site's name"><input name="site" required maxlength="31" initial={view.site} autocapitalize="none" /></Field>,
    <Field label="Its address on the line"><input name="address" required maxlength="64" initial={view.address} placeholder="192.0.2.1" /></Field>,
    <Field label="Port of the channel" hint="The heartbeats take the next"><input name="port" type="number" min="1" max="65534" placeholder="first free" /></Field>,
    <Field label="Tiebreaker" hint={props.tiebreaker}>
      <input name="tiebreaker" maxlength="300" initial={view.tiebreaker} placeholder="203.0.113.1:7200" /></Field>,
  ];
}

function Forms(props: { view: PairingView; actions: PairingActions }): VNode {
  const { view, actions } = props;
  const free = view.vms.filter((vm) => !vm.paired);
  const handle = (work: (data: FormData) => Promise<void>) => (event: Event) => {
    event.preventDefault();
    work(new FormData(event.target as HTMLFormElement));
  };
  const left = Math.max(0, (view.items.find((item) => item.pair === store.pairing.codeOf)?.expires_unix_ms ?? 0) - nowUnixMs());
  return (
    <div class="stack" key="forms">
      <section class="card">
        <h2><Icon name="key" />Offer a VM of this site</h2>
        {store.pairing.code ? (
          <div class="notice good" key="code">
            <p>Type this at the other site's page, under <b>Enter a code</b>. It is good once, for {format.duration(left / 1000)} more:</p>
            <pre class="secret code">{store.pairing.code}</pre>
          </div>
        ) : null}
        {free.length === 0 ? (
          <p key="none" class="muted quiet">There is no VM here that is not paired. As root: antipode-web vm add NAME --definition FILE.</p>
        ) : (
          <form key="offer" class="fields roomy" onsubmit={handle((data) => actions.offer(data))}>
            <Field label="VM"><select name="pair">{free.map((vm) => <option value={vm.name}>{vm.name}</option>)}</select></Field>
            {Place({ view, tiebreaker: "The third site, HOST:PORT" })}
            <button class="button primary" disabled={store.pairing.busy}>Make a code</button>
          </form>
        )}
      </section>
      <section class="card">
        <h2><Icon name="swap" />Enter a code</h2>
        <form class="fields roomy" onsubmit={handle((data) => actions.join(data))}>
          <div class="field whole"><Field label="The code that the other site shows">
            <input name="code" required maxlength="400" autocomplete="off" spellcheck="false" autocapitalize="characters" class="code" />
          </Field></div>
          {Place({ view, tiebreaker: "Empty: as the other site has it" })}
          <button class="button primary" disabled={store.pairing.busy}>Pair</button>
        </form>
      </section>
    </div>
  );
}

function Row(props: { pairing: Pairing; actions: PairingActions }): VNode {
  const { pairing, actions } = props;
  const asking = store.pairing.asking?.pair === pairing.pair ? store.pairing.asking : null;
  const admin = may("admin");
  return (
    <li class={`task mood-${kStateMood[pairing.state]}`} key={pairing.pair}>
      <Icon name={kStateMood[pairing.state]} class="mood-icon" label={pairing.state} />
      <div class="task-body">
        <div class="task-head">
          <b>{pairing.pair.startsWith(".") ? "A code that was entered" : pairing.pair}</b>
          <span class="muted">{format.title(pairing.state)}{pairing.peer_site ? `, ${pairing.site} with ${pairing.peer_site}` : ""}</span>
          <span class="muted task-time">{format.moment(pairing.changed_unix_ms)}</span>
        </div>
        <ul class="findings">
          {pairing.steps.map((step) => (
            <li class={`mood-${kStepMood[step.state]}`}>
              <Icon name={kStepMood[step.state]} label={step.state} />
              <span><b>{kStepTitle[step.name] ?? format.title(step.name)}:</b> {format.sentence(step.text)}</span>
            </li>
          ))}
        </ul>
        {admin && pairing.state === "paired" && !asking ? (
          <p class="row-buttons">
            <button class="button small" onclick={() => { store.pairing.asking = { pair: pairing.pair, what: "rekey", typed: "" }; actions.draw(); }}>New keys…</button>
            <button class="button small danger-text" onclick={() => { store.pairing.asking = { pair: pairing.pair, what: "unpair", typed: "" }; actions.draw(); }}>Unpair…</button>
          </p>
        ) : null}
        {admin && (pairing.state === "failed" || pairing.state === "offered") ? (
          <p class="row-buttons"><button class="button small" onclick={() => actions.withdraw(pairing.pair)}>
            {pairing.state === "offered" ? "Withdraw the code" : "Clear"}</button></p>
        ) : null}
        {asking ? (
          <form class="fields inline-form" onsubmit={(event: Event) => { event.preventDefault(); actions.change(); }}>
            <p class="whole">{asking.what === "unpair"
              ? "Both sites lose the keys of this pair; the VM's definition and its disks stay. Its replicators must be stopped."
              : "Both sites make new keys. The VM's replicators must be stopped at both, and started again after it."}</p>
            <Field label={`Type ${pairing.pair} to confirm`}>
              <input value={asking.typed} autocomplete="off" autocapitalize="none"
                     oninput={(event: Event) => { asking.typed = (event.target as HTMLInputElement).value; actions.draw(); }} />
            </Field>
            <button type="button" class="button" onclick={() => { store.pairing.asking = null; actions.draw(); }}>Cancel</button>
            <button class="button danger" disabled={asking.typed !== pairing.pair || store.pairing.busy}>
              {asking.what === "unpair" ? "Unpair" : "Make new keys"}</button>
          </form>
        ) : null}
      </div>
    </li>
  );
}

export function PairingPage(props: { actions: PairingActions }): VNode {
  const { view, error, saved } = store.pairing;
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Pairing</h1></div>
      {error ? <p class="alert severity-error" role="alert"><Icon name="error" /><span>{error}</span></p> : null}
      {saved ? <p class="alert saved mood-good" role="status"><Icon name="good" class="mood-icon" /><span>{saved}</span></p> : null}
      {view && !view.reachable ? (
        <p class="alert severity-warning"><Icon name="warning" /><span>
          This page is on loopback, without TLS: no other site can reach it. Set listen.address and listen.tls in web.toml.</span></p>
      ) : null}
      <section class="card" key="pairs">
        <h2><Icon name="balance" />Pairs of this site</h2>
        {!view ? <p class="loading">Reading…</p> : view.items.length === 0
          ? <p class="muted quiet">No VM of this site was paired from this page.</p>
          : <ul class="tasks">{view.items.map((pairing) => <Row pairing={pairing} actions={props.actions} />)}</ul>}
      </section>
      {view && may("admin") ? <Forms view={view} actions={props.actions} /> : null}
    </main>
  );
}
