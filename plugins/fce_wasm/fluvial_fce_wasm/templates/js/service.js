// The service: an object for each exported interface, a function for each function. Numbers of 64 bits are plain numbers here.
const greeted = new Map();

export const api = {
  greet(name) {
    greeted.set(name, (greeted.get(name) ?? 0) + 1);
    return `Hello, ${name}!`;
  },
  visits() {
    return [...greeted].map(([name, times]) => ({ name, times }));
  },
};
