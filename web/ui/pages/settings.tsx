// The administrator's page: sessions, the certificate, users, tokens, and the audit log.
import { h, VNode } from "../vdom";
import { ApiError, AuditEntry, get, Page, send, Settings, Token, User } from "../api";
import { Field } from "../dialog";
import { Icon } from "../icons";
import { roleWord } from "../session";
import { kNoAdmin, may, nowUnixMs, store } from "../store";
import * as format from "../format";

const kRoles = ["viewer", "drill_operator", "operator", "admin"];

export class SettingsActions {
  constructor(readonly draw: () => void) {}

  async load(): Promise<void> {
    store.admin = { ...kNoAdmin };
    await this.attempt("", async () => {
      store.admin.settings = await get<Settings>("/api/v1/settings");
      if (!may("admin")) return;
      store.admin.users = (await get<Page<User>>("/api/v1/users")).items;
      store.admin.tokens = (await get<Page<Token>>("/api/v1/tokens")).items;
      await this.loadAudit(0);
    });
  }

  async loadAudit(before: number): Promise<void> {
    const page = await get<Page<AuditEntry>>(`/api/v1/audit?limit=50${before ? `&before=${before}` : ""}`);
    store.admin.audit = before ? [...(store.admin.audit ?? []), ...page.items] : page.items;
    store.admin.auditNext = page.next as number | null;
  }

  // Does something, says how it went, and shows the present.
  async attempt(done: string, work: () => Promise<void>): Promise<boolean> {
    store.admin.error = "";
    store.admin.saved = "";
    try {
      await work();
      store.admin.saved = done;
      return true;
    } catch (error) {
      store.admin.error = error instanceof ApiError ? format.sentence(error.message) : String(error);
      return false;
    } finally {
      this.draw();
    }
  }

  change(done: string, method: string, path: string, body?: unknown): Promise<boolean> {
    return this.attempt(done, async () => {
      await send(method, path, body);
      store.admin.users = (await get<Page<User>>("/api/v1/users")).items;
      store.admin.tokens = (await get<Page<Token>>("/api/v1/tokens")).items;
      store.admin.settings = await get<Settings>("/api/v1/settings");
      await this.loadAudit(0);
    });
  }
}

function submit(handler: (data: FormData, form: HTMLFormElement) => void): (event: Event) => void {
  return (event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    handler(new FormData(form), form);
  };
}

function RoleSelect(props: { role: string; label: string; onchange: (role: string) => void }): VNode {
  return (
    <select value={props.role} aria-label={props.label}
            onchange={(event: Event) => props.onchange((event.target as HTMLSelectElement).value)}>
      {kRoles.map((role) => <option value={role}>{roleWord(role)}</option>)}
    </select>
  );
}

function NewRole(): VNode {
  return (
    <Field label="Role">
      <select name="role" initial="viewer">
        {kRoles.map((role) => <option value={role}>{roleWord(role)}</option>)}
      </select>
    </Field>
  );
}

function General(props: { settings: Settings; actions: SettingsActions }): VNode {
  const { settings, actions } = props;
  const https = settings.https;
  return (
    <section class="card">
      <h2><Icon name="info" />Sessions</h2>
      <form class="fields" onsubmit={submit((data) => {
        actions.change("Saved.", "PATCH", "/api/v1/settings", {
          session_idle_minutes: Number(data.get("idle")), session_hours: Number(data.get("hours")),
          login_banner: data.get("banner"),
        });
      })}>
        <Field label="A session ends after idle minutes">
          <input name="idle" type="number" min="1" max="1440" initial={String(settings.session_idle_minutes)} disabled={!may("admin")} />
        </Field>
        <Field label="and after hours in any case">
          <input name="hours" type="number" min="1" max="720" initial={String(settings.session_hours)} disabled={!may("admin")} />
        </Field>
        <Field label="Words above the login">
          <input name="banner" maxlength="2000" initial={settings.login_banner} disabled={!may("admin")} />
        </Field>
        {may("admin") ? <button class="button primary">Save</button> : null}
      </form>
      <h2 class="second"><Icon name="good" />Certificate</h2>
      {https.tls ? (
        <dl class="facts wide">
          <div><dt>Subject</dt><dd>{https.subject}</dd></div>
          <div><dt>Issuer</dt><dd>{https.self_signed ? "made by this host itself" : https.issuer}</dd></div>
          <div><dt>Valid until</dt><dd>{https.not_after_unix_ms ? format.dateTime(https.not_after_unix_ms) : format.kUnknown}</dd></div>
          <div class="whole"><dt>SHA-256</dt><dd><code>{https.fingerprint}</code></dd></div>
        </dl>
      ) : <p class="muted">This page is served without TLS, over loopback only.</p>}
    </section>
  );
}

function Users(props: { users: User[]; actions: SettingsActions }): VNode {
  const { users, actions } = props;
  const path = (user: User) => `/api/v1/users/${user.name}`;
  return (
    <section class="card">
      <h2><Icon name="user" />Users</h2>
      <div class="scroll">
        <table>
          <thead><tr><th>Name</th><th>Role</th><th>Changed</th><th /></tr></thead>
          <tbody>
            {users.map((user) => (
              <tr key={user.name}>
                <td><b>{user.name}</b>{user.disabled ? <span class="chip">disabled</span> : null}</td>
                <td><RoleSelect role={user.role} label={`Role of ${user.name}`} onchange={(role) =>
                  actions.change(`${user.name} is ${roleWord(role).toLowerCase()} now.`, "PATCH", path(user), { role })} /></td>
                <td class="muted">{format.dateTime(user.changed_unix_ms).slice(0, 10)}</td>
                <td class="row-buttons">
                  <button class="button small" onclick={() => actions.change(
                    `${user.name} is ${user.disabled ? "enabled" : "disabled"}.`, "PATCH", path(user), { disabled: !user.disabled })}>
                    {user.disabled ? "Enable" : "Disable"}</button>
                  <button class="button small danger-text" onclick={() => actions.change(`${user.name} is removed.`, "DELETE", path(user))}>
                    Remove</button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <form class="fields inline-form" onsubmit={submit(async (data, form) => {
        const done = await actions.change(`${data.get("name")} may log in.`, "POST", "/api/v1/users",
          { name: data.get("name"), role: data.get("role"), password: data.get("password") });
        if (done) form.reset();
      })}>
        <Field label="Name"><input name="name" required maxlength="31" autocomplete="off" autocapitalize="none" /></Field>
        <NewRole />
        <Field label="Password"><input name="password" type="password" required minlength="10" autocomplete="new-password" /></Field>
        <button class="button">Add user</button>
      </form>
    </section>
  );
}

function Tokens(props: { tokens: Token[]; actions: SettingsActions }): VNode {
  const { tokens, actions } = props;
  const now = nowUnixMs();
  return (
    <section class="card">
      <h2><Icon name="key" />Tokens for programs</h2>
      {store.admin.newToken ? (
        <div class="notice good">
          <p>Copy it now; it is not shown again:</p><pre class="secret">{store.admin.newToken}</pre>
        </div>
      ) : null}
      {tokens.length === 0 ? <p class="muted quiet">None yet. A monitoring system gets one with the role viewer.</p> : (
        <div class="scroll">
          <table>
            <thead><tr><th>Name</th><th>Role</th><th>By</th><th>Expires</th><th>Last used</th><th /></tr></thead>
            <tbody>
              {tokens.map((token) => (
                <tr key={token.id}>
                  <td><b>{token.name}</b></td><td>{roleWord(token.role)}</td><td>{token.created_by}</td>
                  <td>{token.expires_unix_ms === null ? "never" : token.expires_unix_ms < now ? "has expired"
                       : format.dateTime(token.expires_unix_ms).slice(0, 10)}</td>
                  <td>{token.used_unix_ms === null ? "never" : `${format.since(token.used_unix_ms, now)} ago`}</td>
                  <td class="row-buttons">
                    <button class="button small danger-text" onclick={() =>
                      actions.change(`${token.name} is revoked.`, "DELETE", `/api/v1/tokens/${token.id}`)}>Revoke</button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <form class="fields inline-form" onsubmit={submit((data, form) => {
        const days = data.get("days");
        actions.attempt("", async () => {
          const made = await send<{ token: string }>("POST", "/api/v1/tokens",
            { name: data.get("name"), role: data.get("role"), expires_days: days ? Number(days) : null });
          store.admin.newToken = made.token;
          store.admin.tokens = (await get<Page<Token>>("/api/v1/tokens")).items;
          await actions.loadAudit(0);
          form.reset();
        });
      })}>
        <Field label="Name"><input name="name" required maxlength="31" autocomplete="off" autocapitalize="none" /></Field>
        <NewRole />
        <Field label="Expires after days"><input name="days" type="number" min="1" max="3650" placeholder="never" /></Field>
        <button class="button">Make token</button>
      </form>
    </section>
  );
}

const kOutcomeMood: { [outcome: string]: string } = { ok: "good", asked: "busy", refused: "warning", failed: "bad" };

function Audit(props: { entries: AuditEntry[]; actions: SettingsActions }): VNode {
  return (
    <section class="card">
      <h2><Icon name="terminal" />Audit log</h2>
      <div class="scroll">
        <table class="audit">
          <thead><tr><th>Time</th><th>Who</th><th>What</th><th>To</th><th>Outcome</th><th>Detail</th></tr></thead>
          <tbody>
            {props.entries.map((entry) => (
              <tr key={entry.id}>
                <td class="muted nowrap" title={format.dateTime(entry.time_unix_ms)}>{format.moment(entry.time_unix_ms)}</td>
                <td title={`${entry.via} from ${entry.remote}`}>{entry.actor}</td>
                <td class="nowrap">{entry.action}</td>
                <td>{entry.target}</td>
                <td class={`mood-${kOutcomeMood[entry.outcome] ?? "unknown"}`}>
                  <span class="outcome"><Icon name={kOutcomeMood[entry.outcome] ?? "unknown"} />{entry.outcome}</span></td>
                <td class="muted">{entry.detail}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {store.admin.auditNext !== null ? (
        <button class="button more" onclick={() => props.actions.attempt("", () => props.actions.loadAudit(store.admin.auditNext!))}>
          Show older entries</button>
      ) : null}
    </section>
  );
}

export function SettingsPage(props: { actions: SettingsActions }): VNode {
  const { actions } = props;
  const { settings, users, tokens, audit, error, saved } = store.admin;
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Settings</h1></div>
      {error ? <p class="alert severity-error" role="alert"><Icon name="error" /><span>{error}</span></p> : null}
      {saved ? <p class="alert saved mood-good" role="status"><Icon name="good" class="mood-icon" /><span>{saved}</span></p> : null}
      {settings ? <General settings={settings} actions={actions} /> : error ? null : <p class="loading">Reading…</p>}
      {users ? <Users users={users} actions={actions} /> : null}
      {tokens ? <Tokens tokens={tokens} actions={actions} /> : null}
      {audit ? <Audit entries={audit} actions={actions} /> : null}
    </main>
  );
}
