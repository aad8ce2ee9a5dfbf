// The search as the address says it, so that it can be shared and the back button works:
// ?text=red+shoes | ?like=ID | ?picture=NAME, then into=MODALITY, closer=yes, is=FIELD:VALUE, from=FIELD:NUMBER,
// to=FIELD:NUMBER, item=ID, why=yes

const QUERIES = ["text", "like", "picture"];
const BOUNDS = { from: ">=", to: "<=" };

/** What an address says: by and what to search by, into, closer, is: field to values, from and to: field to number, item, why. */
export function read(search) {
  const said = new URLSearchParams(search);
  const by = QUERIES.find((one) => said.get(one)) ?? "";
  const state = { by, what: said.get(by) ?? "", into: said.get("into") ?? "", item: said.get("item") ?? "", closer: said.has("closer"), why: said.has("why"), is: new Map() };
  for (const [field, value] of pairs(said, "is")) state.is.set(field, [...(state.is.get(field) ?? []), value]);
  for (const bound in BOUNDS) state[bound] = new Map(pairs(said, bound).filter(([, value]) => Number.isFinite(Number(value))));
  return state;
}

export function write(state) {
  const said = new URLSearchParams();
  if (state.by) said.set(state.by, state.what);
  if (state.into) said.set("into", state.into);
  if (state.closer) said.set("closer", "yes");
  for (const [field, values] of state.is ?? []) for (const value of values) said.append("is", pair(field, value));
  for (const bound in BOUNDS) for (const [field, value] of state[bound] ?? []) said.append(bound, pair(field, value));
  if (state.item) said.set("item", state.item);
  if (state.item && state.why) said.set("why", "yes");
  return `?${said}`;
}

/** The filter of a search as the service takes it, given the type of each field; undefined if there is none. */
export function where(state, types) {
  const conditions = {};
  for (const [field, values] of state.is) {
    const wanted = values.map((value) => (types[field] === "bool" ? value === "true" : value));
    conditions[field] = types[field] === "texts" ? { has: wanted } : wanted;
  }
  for (const bound in BOUNDS)
    for (const [field, value] of state[bound]) conditions[field] = { ...conditions[field], [BOUNDS[bound]]: Number(value) };
  return Object.keys(conditions).length ? conditions : undefined;
}

/** The same search with a value of a field wanted, or no longer. */
export function toggled(state, field, value) {
  const is = new Map(state.is);
  const values = is.get(field) ?? [];
  const left = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
  if (left.length) is.set(field, left);
  else is.delete(field);
  return { ...state, is };
}

/** The same search with a number field bounded "from" or "to"; unbounded if the value is empty. */
export function bounded(state, bound, field, value) {
  const limits = new Map(state[bound]);
  if (value === "") limits.delete(field);
  else limits.set(field, value);
  return { ...state, [bound]: limits };
}

// FIELD:VALUE, where a colon in the name of the field must not end it
function pair(field, value) {
  return `${field.replaceAll("%", "%25").replaceAll(":", "%3A")}:${value}`;
}

function pairs(said, name) {
  const split = said.getAll(name).map((one) => [one.indexOf(":"), one]);
  const unescaped = (field) => field.replaceAll("%3A", ":").replaceAll("%25", "%");
  return split.filter(([at]) => at > 0).map(([at, one]) => [unescaped(one.slice(0, at)), one.slice(at + 1)]);
}
