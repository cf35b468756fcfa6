// MQTT 3.1.1 over a websocket: the few packets that a dashboard needs, after the OASIS standard
// of 29 October 2014 (sections in brackets). QoS 0 and 1, clean sessions, no will.

const CONNECT = 1;
const CONNACK = 2;
const PUBLISH = 3;
const PUBACK = 4;
const SUBSCRIBE = 8;
const SUBACK = 9;
const PINGREQ = 12;
const DISCONNECT = 14;

const KEEPALIVE_S = 15;
const GREETING_MS = 8000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15000;
const LARGEST_PACKET_BYTES = 1024 * 1024;

const REFUSALS = {
  1: 'the broker speaks no MQTT 3.1.1',
  2: 'the broker refuses the name of this dashboard',
  3: 'the broker is not ready',
  4: 'the broker knows no such user and password',
  5: 'the broker wants a user and a password; dashboard_broker in the settings names them',
};

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A string as [1.5.3] has it: two bytes of length, then UTF-8. */
const text = (string) => {
  const bytes = encoder.encode(string);
  return [bytes.length >> 8, bytes.length & 255, ...bytes];
};

const word = (number) => [number >> 8, number & 255];

/** A packet with its fixed header [2.2]: type, flags, the length in groups of seven bits. */
export function packet(type, flags, body) {
  const length = [];
  let rest = body.length;
  do {
    length.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>= 7;
  } while (rest > 0);
  return new Uint8Array([(type << 4) | flags, ...length, ...body]);
}

/** Packets out of a stream of bytes that may be cut anywhere. */
export class PacketReader {
  #held = new Uint8Array(0);

  /** The packets that `bytes` complete: `{type, flags, body}`. Throws where a packet is too large. */
  push(bytes) {
    const joined = new Uint8Array(this.#held.length + bytes.length);
    joined.set(this.#held);
    joined.set(bytes, this.#held.length);
    const packets = [];
    let at = 0;
    for (;;) {
      let length = 0;
      let shift = 0;
      let next = at + 1;
      while (next < joined.length && joined[next] & 128) {
        length |= (joined[next] & 127) << shift;
        shift += 7;
        next += 1;
      }
      if (shift > 21) throw new Error('not MQTT: a length of more than four bytes');
      if (next >= joined.length) break;
      length |= joined[next] << shift;
      next += 1;
      if (length > LARGEST_PACKET_BYTES) throw new Error(`a packet of ${length} bytes is too large`);
      if (joined.length - next < length) break;
      const body = joined.subarray(next, next + length);
      packets.push({ type: joined[at] >> 4, flags: joined[at] & 15, body });
      at = next + length;
    }
    this.#held = joined.slice(at);
    return packets;
  }
}

/** What a PUBLISH holds [3.3]: `{topic, payload, qos, retain, id}`. */
export function readPublish(flags, body) {
  const qos = (flags >> 1) & 3;
  const topicEnd = 2 + ((body[0] << 8) | body[1]);
  const payloadStart = topicEnd + (qos > 0 ? 2 : 0);
  return {
    topic: decoder.decode(body.subarray(2, topicEnd)),
    payload: decoder.decode(body.subarray(payloadStart)),
    qos,
    retain: (flags & 1) === 1,
    id: qos > 0 ? (body[topicEnd] << 8) | body[topicEnd + 1] : null,
  };
}

/**
 * A connection that comes back by itself.
 *
 * `onMessage({topic, payload, retain})` gets what is published on `topics`; `onState(word, why)`
 * gets 'connecting', 'open', 'closed' or 'refused'.
 */
export class Mqtt {
  #socket = null;
  #reader = null;
  #timers = [];
  #retry_ms = FIRST_RETRY_MS;
  #lastHeard_ms = 0;
  #nextId = 1;
  #ended = false;

  constructor({ url, username, password, topics, onMessage, onState }) {
    Object.assign(this, { url, username, password, topics, onMessage, onState });
    this.clientId = `dashboard-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
  }

  open() {
    this.onState('connecting', '');
    let socket;
    try {
      socket = new WebSocket(this.url, ['mqtt']);
    } catch (error) {
      this.onState('refused', `${this.url}: ${error.message}`);
      return;
    }
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#reader = new PacketReader();
    this.#lastHeard_ms = performance.now();
    socket.onopen = () => this.#send(this.#greeting());
    socket.onmessage = (event) => this.#take(new Uint8Array(event.data));
    socket.onclose = () => this.#lost(socket);
    this.#timers = [
      setTimeout(() => socket.close(), GREETING_MS),
      setInterval(() => this.#beat(), (KEEPALIVE_S * 1000) / 2),
    ];
  }

  /** Says goodbye and stays away. */
  close() {
    this.#ended = true;
    this.#send(packet(DISCONNECT, 0, []));
    this.#socket?.close();
  }

  /** Publishes at QoS 1; false when there is no connection. */
  publish(topic, payload) {
    return this.#send(
      packet(PUBLISH, 2, [...text(topic), ...word(this.#id()), ...encoder.encode(payload)]),
    );
  }

  #greeting() {
    const login = (this.username ? 0x80 : 0) | (this.password ? 0x40 : 0);
    const body = [...text('MQTT'), 4, login | 0x02, ...word(KEEPALIVE_S), ...text(this.clientId)];
    if (this.username) body.push(...text(this.username));
    if (this.password) body.push(...text(this.password));
    return packet(CONNECT, 0, body);
  }

  #id() {
    this.#nextId = (this.#nextId % 65535) + 1;
    return this.#nextId;
  }

  #send(bytes) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(bytes);
    return true;
  }

  #beat() {
    if (performance.now() - this.#lastHeard_ms > 2000 * KEEPALIVE_S) this.#socket.close();
    else this.#send(packet(PINGREQ, 0, []));
  }

  #take(bytes) {
    this.#lastHeard_ms = performance.now();
    let packets;
    try {
      packets = this.#reader.push(bytes);
    } catch {
      this.#socket.close();
      return;
    }
    for (const { type, flags, body } of packets) {
      if (type === CONNACK) this.#welcomed(body[1]);
      else if (type === PUBLISH) {
        const message = readPublish(flags, body);
        if (message.qos > 0) this.#send(packet(PUBACK, 0, word(message.id)));
        this.onMessage(message);
      } else if (type === SUBACK) {
        const refused = [...body.subarray(2)].includes(0x80);
        this.onState('open', refused ? 'the broker lets this account read a part only' : '');
      }
    }
  }

  #welcomed(code) {
    clearTimeout(this.#timers[0]);
    if (code !== 0) {
      this.#ended = true;
      this.onState('refused', REFUSALS[code] ?? `the broker refuses (${code})`);
      this.#socket.close();
      return;
    }
    this.#retry_ms = FIRST_RETRY_MS;
    const filters = this.topics.flatMap(([topic, qos]) => [...text(topic), qos]);
    this.#send(packet(SUBSCRIBE, 2, [...word(this.#id()), ...filters]));
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#timers.forEach(clearTimeout);
    this.#socket = null;
    if (this.#ended) return;
    this.onState('closed', 'The broker does not answer; it is tried again until it does.');
    setTimeout(() => this.open(), this.#retry_ms * (0.75 + Math.random() / 2));
    this.#retry_ms = Math.min(2 * this.#retry_ms, LONGEST_RETRY_MS);
  }
}
