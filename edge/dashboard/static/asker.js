// Questions to the piano: `cmd/<name>` and the answer on `rsp/<name>` with the same transaction.

const PATIENCE_MS = 8000;

export class Asker {
  #waiting = new Map();
  #mine = crypto.getRandomValues(new Uint32Array(2)).join('-');
  #count = 0;

  /** `publish(name, body)` sends a command; false when it cannot. */
  constructor(publish) {
    this.publish = publish;
  }

  /** The answer to one command: `{status, data, error}`, also where none comes. */
  ask(name, value, patience_ms = PATIENCE_MS) {
    this.#count += 1;
    const transaction = `${this.#mine}-${this.#count}`;
    const none = (error) => ({ status: 'error', data: null, error });
    if (!this.publish(name, { value, transaction })) {
      return Promise.resolve(none('there is no way to the broker now'));
    }
    return new Promise((resolve) => {
      this.#waiting.set(transaction, resolve);
      setTimeout(() => {
        resolve(none('the piano gives no answer; perhaps this account may not ask'));
        this.#waiting.delete(transaction);
      }, patience_ms);
    });
  }

  /** A message on `rsp/<name>` came. */
  answered(document) {
    this.#waiting.get(document.transaction)?.(document);
    this.#waiting.delete(document.transaction);
  }
}
