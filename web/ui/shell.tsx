// What frames every page: the brand, the pages' names, the live state, the theme, the user.
import { Icon, Mark } from "./icons";
import { SessionActions, UserMenu } from "./session";
import { may, pairInPath, store, Theme } from "./store";
import { RunningTasks } from "./tasks";
import { h, VNode } from "./vdom";

const kThemes: Theme[] = ["auto", "light", "dark"];
const kThemeIcon: { [theme in Theme]: string } = { auto: "auto", light: "sun", dark: "moon" };
const darkQuery = window.matchMedia("(prefers-color-scheme: dark)");

export function applyTheme(): void {
  const dark = store.theme === "dark" || (store.theme === "auto" && darkQuery.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function watchTheme(draw: () => void): void {
  const remembered = localStorage.getItem("theme");
  if (remembered && kThemes.includes(remembered as Theme)) store.theme = remembered as Theme;
  applyTheme();
  darkQuery.addEventListener("change", () => { applyTheme(); draw(); });
}

function nextTheme(draw: () => void): void {
  store.theme = kThemes[(kThemes.indexOf(store.theme) + 1) % kThemes.length];
  localStorage.setItem("theme", store.theme);
  applyTheme();
  draw();
}

interface HeaderProps {
  open: (path: string) => void;
  draw: () => void;
  actions: SessionActions;
  logIn: () => void;
}

function NavLink(props: { href: string; text: string; open: (path: string) => void }): VNode {
  const here = store.path === props.href;
  return (
    <a href={props.href} class={here ? "here" : ""} aria-current={here ? "page" : undefined}
       onclick={(event: MouseEvent) => {
         if (event.ctrlKey || event.metaKey || event.shiftKey) return;
         event.preventDefault();
         props.open(props.href);
       }}>{props.text}</a>
  );
}

export function Header(props: HeaderProps): VNode {
  const { open, draw } = props;
  const pair = pairInPath(store.path);
  return (
    <header class="top">
      <a class="skip" href="#main">Skip to the content</a>
      <a class="brand" href="/" aria-label="Antipode, overview"
         onclick={(event: MouseEvent) => { event.preventDefault(); open("/"); }}>
        <Mark /><span>Antipode</span>
      </a>
      <nav aria-label="Pages">
        <NavLink href="/" text="Overview" open={open} />
        {pair ? <NavLink href={store.path} text={pair} open={open} /> : null}
        <NavLink href="/links" text="Links" open={open} />
        <NavLink href="/disks" text="Disks" open={open} />
        <NavLink href="/tiebreaker" text="Tiebreaker" open={open} />
        <NavLink href="/drills" text="Drills" open={open} />
        <NavLink href="/events" text="Events" open={open} />
        {may("admin") ? <NavLink href="/pairing" text="Pairing" open={open} /> : null}
        {may("admin") ? <NavLink href="/settings" text="Settings" open={open} /> : null}
      </nav>
      <div class="top-right">
        <RunningTasks />
        <span class={`live-state ${store.connected ? "on" : "off"}`} role="status">
          <span class="live-dot" aria-hidden="true" />
          {store.connected ? "Live" : store.everConnected ? "Reconnecting…" : "Connecting…"}
        </span>
        <button class="icon-button" onclick={() => nextTheme(draw)} title={`Theme: ${store.theme}`}
                aria-label={`Theme: ${store.theme}. Change`}>
          <Icon name={kThemeIcon[store.theme]} />
        </button>
        <UserMenu actions={props.actions} logIn={props.logIn} />
      </div>
    </header>
  );
}
