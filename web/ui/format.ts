// Numbers and times for people. Unknown is an en dash, never a zero.

export const kUnknown = "–";

type Maybe = number | null | undefined;

function known(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

// Three significant digits, no exponent.
export function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

export function seconds(value: Maybe): string {
  if (!known(value)) return kUnknown;
  const size = Math.abs(value);
  if (size === 0) return "0 ms";
  if (size < 0.001) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  return duration(value);
}

export function bytes(value: Maybe, perSecond = false): string {
  if (!known(value)) return kUnknown;
  const suffix = perSecond ? "/s" : "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1000 && unit < units.length - 1) {
    size /= 1000;
    ++unit;
  }
  return `${unit === 0 ? size.toFixed(0) : digits(size)} ${units[unit]}${suffix}`;
}

// Sizes of disks and memory are powers of two.
export function binaryBytes(value: Maybe): string {
  if (!known(value)) return kUnknown;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    ++unit;
  }
  return `${digits(size)} ${units[unit]}`;
}

export function rate(value: Maybe): string {
  if (!known(value)) return kUnknown;
  if (value >= 1e6) return `${digits(value / 1e6)} M/s`;
  if (value >= 1e4) return `${digits(value / 1e3)} k/s`;
  return `${digits(value)} /s`;
}

export function count(value: Maybe): string {
  if (!known(value)) return kUnknown;
  return value.toLocaleString("en-US").replace(/,/g, "\u202f");
}

export function percent(ratio: Maybe): string {
  if (!known(ratio)) return kUnknown;
  const value = ratio * 100;
  return `${value > 0 && value < 1 ? value.toFixed(2) : digits(value)} %`;
}

export function duration(value: Maybe): string {
  if (!known(value)) return kUnknown;
  const total = Math.max(0, Math.floor(value));
  const days = Math.floor(total / 86400);
  const hours = Math.floor(total / 3600) % 24;
  const minutes = Math.floor(total / 60) % 60;
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${total % 60} s`;
  return `${total} s`;
}

export function since(unixMs: number, nowUnixMs: number): string {
  return unixMs > 0 ? duration((nowUnixMs - unixMs) / 1000) : kUnknown;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

export function clock(unixMs: number): string {
  const at = new Date(unixMs);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function dateTime(unixMs: number): string {
  const at = new Date(unixMs);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(unixMs)}`;
}

// The time today, the date and time before.
export function moment(unixMs: number): string {
  const today = new Date().toDateString() === new Date(unixMs).toDateString();
  return today ? clock(unixMs) : dateTime(unixMs).slice(5, 16);
}

// "tiebreaker_lost" as people read it.
export function words(code: string): string {
  return code.replace(/_/g, " ").replace(/\bvm\b/g, "VM");
}

// The first letter large: reasons come as parts of log lines.
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function title(code: string): string {
  return sentence(words(code));
}
