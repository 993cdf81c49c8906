// Where it begins: addresses, the session, live data, and the drawing.
import "./style.css";
import { Actions, ActionDialogView } from "./actions";
import { ApiError, get, History, Live, Page, PairEvent, Session, setSession, Task } from "./api";
import { setHoverListener } from "./charts";
import { DisksPage, loadDisks } from "./pages/disks";
import { addDrill, Drill, DrillActions, DrillsPage } from "./pages/drills";
import { EventsPage } from "./pages/events";
import { HookActions } from "./pages/hooks";
import { Link, LinksPage } from "./pages/links";
import { OverviewPage } from "./pages/overview";
import { PairingActions, PairingPage } from "./pages/pairing";
import { SettingsActions, SettingsPage } from "./pages/settings";
import { TiebreakerPage, TiebreakerView } from "./pages/tiebreaker";
import { VmPage } from "./pages/vm";
import { LoginPage, PasswordDialog, SessionActions } from "./session";
import { Header, applyTheme, watchTheme } from "./shell";
import { pairInPath, store } from "./store";
import { addTask } from "./tasks";
import { leaderStatus, siteWord } from "./topology";
import { h, Root, VNode } from "./vdom";

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
  store.moreOpen = false;
  store.menuOpen = false;
  const pair = pairInPath(store.path);
  if (store.pair && store.pair.name !== pair) {
    store.pair = null;
    store.series.clear();
    store.seriesOf = "";
  }
  store.pairMissing = false;
  document.title = pair ? `${pair} · Antipode` : "Antipode";
  if (store.session?.authenticated) {
    live.follow(pair);
    if (store.path === "/settings") settings.load();
    if (store.path === "/pairing") pairing.load();
    refresh();
  }
  draw();
}

// What the pages of facts show is asked for while they are looked at.
async function refresh(): Promise<void> {
  if (!store.session?.authenticated || document.visibilityState === "hidden") return;
  try {
    if (store.path === "/pairing") await pairing.load();
    if (store.path === "/disks") await loadDisks();
    if (store.path === "/drills") await drills.load();
    if (store.path === "/events") await hooks.load();
    if (store.path === "/links") store.links = await get<Page<Link>>("/api/v1/links");
    if (store.path === "/tiebreaker") store.tiebreakers = await get<Page<TiebreakerView>>("/api/v1/tiebreaker");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;  // the live state says that the server is gone
  }
  draw();
}

async function loadSeries(pair: string, of: string): Promise<void> {
  store.seriesOf = of;
  try {
    const samples = await get<History>(`/api/v1/pairs/${encodeURIComponent(pair)}/history`);
    if (store.seriesOf === of) store.series.load(samples);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;  // the live samples fill the chart from here on
  }
  draw();
}

async function loadEvents(): Promise<void> {
  const oldest = store.events.length ? store.events[store.events.length - 1].id : 0;
  const page = await get<Page<PairEvent>>(`/api/v1/events?limit=200${oldest ? `&before=${oldest}` : ""}`);
  for (const event of page.items) addEvent(event);
  store.eventsComplete = page.next === null;
  draw();
}

// After a connection or a login: what was missed meanwhile.
async function catchUp(): Promise<void> {
  store.seriesOf = "";
  store.events = [];
  try {
    await loadEvents();
    for (const task of (await get<Page<Task>>("/api/v1/tasks?limit=100")).items) addTask(task);
    for (const drill of (await get<Page<Drill>>("/api/v1/drills?limit=100")).items) addDrill(drill);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
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
    if (store.pair && store.pair.word !== data.word) {
      store.announced = `${data.name}: ${siteWord(data.word)}. ${data.reason}`;
    }
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
  task(data) {
    addTask(data);
    draw();
  },
  drill(data) {
    addDrill(data);
    draw();
  },
  connection(up) {
    const back = up && !store.connected;
    store.connected = up;
    store.everConnected = store.everConnected || up;
    if (back) catchUp();
    if (!up) askSession();  // gone, or logged out elsewhere?
    draw();
  },
});

function take(session: Session): void {
  const was = store.session;
  store.session = session;
  setSession(session.csrf, askSession);
  if (session.authenticated) {
    if (!was?.authenticated || was.user !== session.user) {
      store.wantsLogin = false;
      live.stop();
      arrive();
    }
  } else {
    live.stop();
    store.connected = false;
    store.everConnected = false;
  }
  draw();
}

let asking = false;
async function askSession(): Promise<void> {
  if (asking) return;
  asking = true;
  try {
    take(await get<Session>("/api/v1/session"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  } finally {
    asking = false;
  }
}

const actions = new Actions(draw);
const settings = new SettingsActions(draw);
const pairing = new PairingActions(draw);
const drills = new DrillActions(draw);
const hooks = new HookActions(draw);
const sessionActions: SessionActions = {
  draw,
  arrived: (session) => take({ ...session, login_possible: true, banner: store.session?.banner }),
  left: () => {
    Object.assign(store, { overview: null, pair: null, events: [], tasks: [], drills: [], dialog: null });
    askSession();
  },
};

function CurrentPage(): VNode {
  const pair = pairInPath(store.path);
  if (pair) return <VmPage name={pair} actions={actions} draw={draw} />;
  if (store.path === "/events") return <EventsPage draw={draw} more={() => loadEvents()} hooks={hooks} />;
  if (store.path === "/links") return <LinksPage data={store.links} />;
  if (store.path === "/tiebreaker") return <TiebreakerPage data={store.tiebreakers} />;
  if (store.path === "/disks") return <DisksPage draw={draw} />;
  if (store.path === "/drills") return <DrillsPage actions={drills} />;
  if (store.path === "/pairing") return <PairingPage actions={pairing} />;
  if (store.path === "/settings") return <SettingsPage actions={settings} />;
  return <OverviewPage open={open} />;
}

function View(): VNode {
  if (!store.session) return <div class="shell"><p class="loading">Connecting…</p></div>;
  if (!store.session.authenticated || store.wantsLogin) {
    const cancel = store.session.authenticated ? () => { store.wantsLogin = false; draw(); } : null;
    return <div class="shell"><LoginPage actions={sessionActions} cancel={cancel} /></div>;
  }
  const stale = store.everConnected && !store.connected;
  return (
    <div class={`shell ${stale ? "stale" : ""}`}>
      <Header open={open} draw={draw} actions={sessionActions} logIn={() => { store.wantsLogin = true; draw(); }} />
      {stale ? (
        <div class="stale-note" role="alert">The connection to this page's server is lost. What you see is old.</div>
      ) : null}
      <CurrentPage />
      <ActionDialogView actions={actions} draw={draw} />
      <PasswordDialog actions={sessionActions} />
      <div class="screen-reader" aria-live="assertive">{store.announced}</div>
    </div>
  );
}

const root = new Root(document.getElementById("app")!, View);
applyTheme();
watchTheme(draw);
setHoverListener(draw);
window.addEventListener("popstate", arrive);
window.setInterval(refresh, 2000);
window.setInterval(askSession, 5 * 60 * 1000);  // an open page is a used one
document.addEventListener("click", (event) => {
  if (!(event.target as Element).closest(".menu") && (store.menuOpen || store.moreOpen)) {
    store.menuOpen = false;
    store.moreOpen = false;
    draw();
  }
});
root.draw();
askSession();
