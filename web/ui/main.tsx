// The shell: addresses, live data, theme, and what is the same on each page.
import "./style.css";
import { ApiError, get, History, Live, PairEvent } from "./api";
import { setHoverListener } from "./charts";
import { Icon, Mark } from "./icons";
import { EventsPage } from "./pages/events";
import { OverviewPage } from "./pages/overview";
import { VmPage } from "./pages/vm";
import { pairInPath, store, Theme } from "./store";
import { leaderStatus } from "./topology";
import { h, Root, VNode } from "./vdom";
import * as format from "./format";

const kEventsKept = 1000;

function draw(): void {
  root.schedule();
}

function open(path: string): void {
  if (path !== location.pathname) history.pushState(null, "", path);
  arrive();
  window.scrollTo(0, 0);
  document.getElementById("main")?.focus();
}

function arrive(): void {
  store.path = location.pathname;
  const pair = pairInPath(store.path);
  if (store.pair && store.pair.name !== pair) {
    store.pair = null;
    store.series.clear();
    store.seriesOf = "";
  }
  store.pairMissing = false;
  live.follow(pair);
  document.title = pair ? `${pair} · Antipode` : "Antipode";
  draw();
}

async function loadSeries(pair: string, of: string): Promise<void> {
  store.seriesOf = of;
  try {
    const history = await get<History>(`/api/v1/pairs/${encodeURIComponent(pair)}/history`);
    if (store.seriesOf === of) store.series.load(history);
  } catch (error) {
    // The live samples fill the chart from here on.
    if (!(error instanceof ApiError)) throw error;
  }
  draw();
}

async function loadEvents(): Promise<void> {
  const oldest = store.events.length ? store.events[store.events.length - 1].id : 0;
  const page = await get<{ items: PairEvent[]; next: number | null }>(
    `/api/v1/events?limit=200${oldest ? `&before=${oldest}` : ""}`);
  for (const event of page.items) addEvent(event);
  store.eventsComplete = page.next === null;
  draw();
}

function addEvent(event: PairEvent): void {
  if (store.events.some((known) => known.id === event.id)) return;
  store.events.push(event);
  store.events.sort((a, b) => b.id - a.id);
  if (store.events.length > kEventsKept) store.events.length = kEventsKept;
}

const live = new Live({
  overview(data) {
    store.overview = data;
    draw();
  },
  pair(data) {
    if (!data) {
      store.pairMissing = pairInPath(store.path) !== "";
      store.pair = null;
      draw();
      return;
    }
    if (data.name !== pairInPath(store.path)) return;
    const word = `${data.name}: ${format.title(data.word)}. ${data.reason}`;
    if (store.pair && store.pair.word !== data.word) store.announced = word;
    store.pairMissing = false;
    store.pair = data;
    const of = `${data.name} ${data.leader}`;
    const status = leaderStatus(data);
    if (store.seriesOf !== of) loadSeries(data.name, of);
    else if (status) store.series.add(status);
    draw();
  },
  event(data) {
    addEvent(data);
    draw();
  },
  connection(up) {
    const back = up && !store.connected;
    store.connected = up;
    store.everConnected = store.everConnected || up;
    if (back) {
      store.seriesOf = "";  // what was missed meanwhile
      loadEvents().catch((error) => { store.failure = String(error); draw(); });
    }
    draw();
  },
});

const kThemes: Theme[] = ["auto", "light", "dark"];
const kThemeIcon: { [theme in Theme]: string } = { auto: "auto", light: "sun", dark: "moon" };
const darkQuery = window.matchMedia("(prefers-color-scheme: dark)");

function applyTheme(): void {
  const dark = store.theme === "dark" || (store.theme === "auto" && darkQuery.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

function nextTheme(): void {
  store.theme = kThemes[(kThemes.indexOf(store.theme) + 1) % kThemes.length];
  localStorage.setItem("theme", store.theme);
  applyTheme();
  draw();
}

function NavLink(props: { href: string; text: string }): VNode {
  const here = store.path === props.href;
  return (
    <a href={props.href} class={here ? "here" : ""} aria-current={here ? "page" : undefined}
       onclick={(event: MouseEvent) => {
         if (event.ctrlKey || event.metaKey || event.shiftKey) return;
         event.preventDefault();
         open(props.href);
       }}>{props.text}</a>
  );
}

function Header(): VNode {
  const pair = pairInPath(store.path);
  return (
    <header class="top">
      <a class="skip" href="#main">Skip to the content</a>
      <a class="brand" href="/" aria-label="Antipode, overview"
         onclick={(event: MouseEvent) => { event.preventDefault(); open("/"); }}>
        <Mark /><span>Antipode</span>
      </a>
      <nav aria-label="Pages">
        <NavLink href="/" text="Overview" />
        {pair ? <NavLink href={store.path} text={pair} /> : null}
        <NavLink href="/events" text="Events" />
      </nav>
      <div class="top-right">
        <span class={`live-state ${store.connected ? "on" : "off"}`} role="status">
          <span class="live-dot" aria-hidden="true" />
          {store.connected ? "Live" : store.everConnected ? "Reconnecting…" : "Connecting…"}
        </span>
        <button class="icon-button" onclick={nextTheme} title={`Theme: ${store.theme}`}
                aria-label={`Theme: ${store.theme}. Change`}>
          <Icon name={kThemeIcon[store.theme]} />
        </button>
      </div>
    </header>
  );
}

function Page(): VNode {
  const pair = pairInPath(store.path);
  if (pair) return <VmPage name={pair} draw={draw} />;
  if (store.path === "/events") return <EventsPage draw={draw} more={() => loadEvents()} />;
  return <OverviewPage open={open} />;
}

function View(): VNode {
  return (
    <div class={`shell ${store.everConnected && !store.connected ? "stale" : ""}`}>
      <Header />
      {store.everConnected && !store.connected
        ? <div class="stale-note" role="alert">The connection to this page's server is lost. What you see is old.</div>
        : null}
      <Page />
      <div class="screen-reader" aria-live="assertive">{store.announced}</div>
    </div>
  );
}

const root = new Root(document.getElementById("app")!, View);
const remembered = localStorage.getItem("theme");
if (remembered && kThemes.includes(remembered as Theme)) store.theme = remembered as Theme;
applyTheme();
darkQuery.addEventListener("change", () => { applyTheme(); draw(); });
setHoverListener(draw);
window.addEventListener("popstate", arrive);
root.draw();
arrive();
