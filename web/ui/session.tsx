// Logging in and out, and who one is.
import { ApiError, send, Session } from "./api";
import { Dialog, Field } from "./dialog";
import { Icon, Mark } from "./icons";
import { store } from "./store";
import { h, VNode } from "./vdom";
import * as format from "./format";

const kRoleWords: { [role: string]: string } = {
  viewer: "Viewer", drill_operator: "Drill operator", operator: "Operator", admin: "Administrator",
};
export function roleWord(role: string): string {
  return kRoleWords[role] ?? format.title(role);
}

export interface SessionActions {
  draw: () => void;
  arrived: (session: Session) => void;  // somebody is logged in now
  left: () => void;
}

async function logIn(form: HTMLFormElement, actions: SessionActions): Promise<void> {
  const data = new FormData(form);
  store.login = { busy: true, error: "" };
  actions.draw();
  try {
    const session = await send<Session>("POST", "/api/v1/session",
                                        { name: data.get("name"), password: data.get("password") });
    store.login = { busy: false, error: "" };
    actions.arrived(session);
  } catch (error) {
    store.login = { busy: false, error: error instanceof ApiError ? format.sentence(error.message) : String(error) };
    actions.draw();
  }
}

export function LoginPage(props: { actions: SessionActions; cancel: (() => void) | null }): VNode {
  const { actions } = props;
  const possible = store.session?.login_possible ?? true;
  return (
    <main id="main" class="login-page" tabindex="-1">
      <form class="card login" onsubmit={(event: Event) => {
        event.preventDefault();
        logIn(event.target as HTMLFormElement, actions);
      }}>
        <div class="login-brand"><Mark /><h1>Antipode</h1></div>
        {store.session?.banner ? <p class="login-banner">{store.session.banner}</p> : null}
        {possible ? [
          <Field label="Name">
            <input name="name" autocomplete="username" required autocapitalize="none" spellcheck="false"
                   onmount={(element: HTMLElement) => element.focus()} />
          </Field>,
          <Field label="Password">
            <input name="password" type="password" autocomplete="current-password" required />
          </Field>,
          <p class="form-error" role="alert">{store.login.error}</p>,
          <button class="button primary wide" disabled={store.login.busy}>
            {store.login.busy ? "Checking…" : "Log in"}
          </button>,
        ] : (
          <div class="notice">
            <p>Nobody can log in yet. On this host, as root:</p>
            <pre>antipode-web user add admin</pre>
          </div>
        )}
        {props.cancel ? <button type="button" class="button plain wide" onclick={props.cancel}>Only look</button> : null}
      </form>
    </main>
  );
}

async function changePassword(form: HTMLFormElement, actions: SessionActions): Promise<void> {
  const data = new FormData(form);
  if (data.get("new") !== data.get("again")) {
    store.passwordDialog = { busy: false, error: "The two new passwords differ.", done: false };
    actions.draw();
    return;
  }
  store.passwordDialog = { busy: true, error: "", done: false };
  actions.draw();
  try {
    const session = await send<Session>("POST", "/api/v1/session/password",
                                        { old_password: data.get("old"), new_password: data.get("new") });
    store.passwordDialog = { busy: false, error: "", done: true };
    actions.arrived({ ...session, login_possible: true, banner: store.session?.banner });
  } catch (error) {
    store.passwordDialog = { busy: false, done: false,
                             error: error instanceof ApiError ? format.sentence(error.message) : String(error) };
  }
  actions.draw();
}

export function PasswordDialog(props: { actions: SessionActions }): VNode | null {
  const state = store.passwordDialog;
  if (!state) return null;
  const close = () => { store.passwordDialog = null; props.actions.draw(); };
  return (
    <Dialog label="Change the password" close={close}>
      <form onsubmit={(event: Event) => {
        event.preventDefault();
        changePassword(event.target as HTMLFormElement, props.actions);
      }}>
        <h2>Change the password</h2>
        {state.done ? <p class="notice good">Done. Every other session of yours is over.</p> : [
          <Field label="Present password"><input name="old" type="password" autocomplete="current-password" required /></Field>,
          <Field label="New password" hint="At least 10 characters">
            <input name="new" type="password" autocomplete="new-password" minlength="10" required />
          </Field>,
          <Field label="New password, once more">
            <input name="again" type="password" autocomplete="new-password" minlength="10" required />
          </Field>,
          <p class="form-error" role="alert">{state.error}</p>,
        ]}
        <div class="dialog-buttons">
          <button type="button" class="button" onclick={close}>{state.done ? "Close" : "Cancel"}</button>
          {state.done ? null : <button class="button primary" disabled={state.busy}>Change it</button>}
        </div>
      </form>
    </Dialog>
  );
}

export function UserMenu(props: { actions: SessionActions; logIn: () => void }): VNode | null {
  const session = store.session;
  if (!session) return null;
  if (session.via !== "session") {
    if (!session.login_possible) return null;
    return (
      <button class="button small" onclick={props.logIn} title="You are looking over loopback, without a login">
        Log in
      </button>
    );
  }
  const toggle = (open: boolean) => () => { store.menuOpen = open; props.actions.draw(); };
  return (
    <div class="menu" onkeydown={(event: KeyboardEvent) => { if (event.key === "Escape") toggle(false)(); }}>
      <button class="button small user-button" aria-expanded={String(store.menuOpen)} aria-haspopup="menu"
              onclick={toggle(!store.menuOpen)}>
        <Icon name="user" /><span class="user-name">{session.user}</span>
      </button>
      {store.menuOpen ? (
        <div class="menu-list" role="menu">
          <div class="menu-head"><b>{session.user}</b><span class="muted">{roleWord(session.role)}</span></div>
          <button role="menuitem" onclick={() => {
            store.menuOpen = false;
            store.passwordDialog = { busy: false, error: "", done: false };
            props.actions.draw();
          }}>Change password</button>
          <button role="menuitem" onclick={() => {
            store.menuOpen = false;
            send("DELETE", "/api/v1/session").finally(() => props.actions.left());
          }}>Log out</button>
        </div>
      ) : null}
    </div>
  );
}

