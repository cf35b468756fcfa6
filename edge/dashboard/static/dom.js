// Two words for what every page does.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text is always text and never HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
