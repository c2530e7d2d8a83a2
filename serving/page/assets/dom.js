/* Elements, and figures as they are read. */

export const find = (id) => document.getElementById(id);

/* An element of `tag.class` with properties and children; text stays text. */
export function make(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = Object.assign(document.createElement(tag), properties);
  element.classList.add(...classes);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const clock = (seconds) => {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}.${tenths % 10}`;
};

/* Three digits, as many as a time on a busy machine is good for. */
export const figure = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${figure(value)} s`);

export const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
