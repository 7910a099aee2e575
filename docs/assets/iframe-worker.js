// Search from files: browsers start no worker from file:// pages, so the same script runs in a hidden frame there.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inside = frame.contentWindow;
      inside.document.open();
      inside.document.write(`<script>
        var importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
          const script = document.createElement("script");
          Object.assign(script, { src: url, onload: done, onerror: failed });
          document.body.appendChild(script);
        })), Promise.resolve());
        var postMessage = data => parent.postMessage({ iframeWorker: data }, "*");
      </` + `script><body><script src="${url}"></` + `script>`);
      inside.document.close();
      this.loaded = new Promise(done => { inside.onload = done; });
      window.addEventListener("message", event => {
        if (event.source === inside && event.data && "iframeWorker" in event.data) {
          const message = new MessageEvent("message", { data: event.data.iframeWorker });
          this.dispatchEvent(message);
          if (this.onmessage) this.onmessage(message);
        }
      });
      this.inside = inside;
    }
    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() { this.inside.frameElement.remove(); }
  }
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
