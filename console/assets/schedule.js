// Schedules when the parts of a page read the ledger again. At most one read of a part is in flight, and one
// more follows if news came meanwhile that its answer does not include. So a late answer is shown, never thrown away.
(function () {
  var SLOW = 2000;          // milliseconds that a read may take before the chip says so
  var LOST = 45000;         // a read that never ended: the console was gone
  var CALM = 5000;          // between two reads of a part that may be a few seconds old
  var AGAIN = 1500;         // after an answer that does not include the news it was asked for
  var RETRY = 10000;        // where nothing could be shown
  var parts = {};

  function blank(start) {
    var now = Date.now();
    return { start: start, busy: true, since: now, began: now, shown: null, want: 0, moved: [], timer: null };
  }

  function concerns(part) {
    if (part.want <= (part.shown ? part.shown.version : 0)) return false;
    if (part.moved === null || part.shown === null || part.shown.version === 0) return true;
    return part.shown.shows.some(function (one) {
      return part.moved.some(function (pair) {
        return one.kinds.indexOf(pair[0]) >= 0 &&
          (one.models === null || pair[1] === '' || one.models.indexOf(pair[1]) >= 0);
      });
    });
  }

  // News adds up until a read begins; the list stays short, since kinds and models repeat.
  function add(part, news) {
    part.want = Math.max(part.want, news.head);
    if (part.moved === null || news.moved === null) { part.moved = null; return; }
    var known = {};
    part.moved = part.moved.concat(news.moved).filter(function (pair) {
      var key = pair.join(' ');
      return known[key] ? false : (known[key] = true);
    });
    if (part.moved.length > 2000) part.moved = null;
  }

  function consider(name, part, pause) {
    if (part.busy || part.timer !== null) return;
    if (!concerns(part)) { part.moved = []; return; }
    var wait = Math.max(0, part.began + pause - Date.now());
    part.timer = setTimeout(function () {
      part.timer = null;
      if (!part.busy && parts[name] === part) begin(name, part);
    }, wait);
  }

  function begin(name, part) {
    part.busy = true;
    part.since = part.began = Date.now();
    part.asked = part.want;
    part.before = part.moved;
    part.moved = [];
    part.start(name, part.want);
  }

  function ended(name, part, pause) {
    part.busy = false;
    var behind = part.shown && part.shown.version > 0 && part.asked > part.shown.version;
    if (behind) {           // it failed, or answered an older state: what it was asked for is still to be shown
      part.moved = part.before === null || part.moved === null ? null : part.before.concat(part.moved);
      pause = Math.max(pause, AGAIN);
    }
    part.asked = 0;
    consider(name, part, pause);
  }

  function ask(name, head) {
    window.dash_clientside.set_props(name + '-turn', { data: { head: head, at: Date.now() } });
  }

  function regrid() {
    try { window.dash_ag_grid.getApi('audit-grid').refreshInfiniteCache(); } catch (e) { /* it is not up yet */ }
  }

  function schedule(start, pause) {
    return function (news, busy, shown, turn) {
      var name = turn.replace(/-turn$/, '');
      var fired = {};
      window.dash_clientside.callback_context.triggered.forEach(function (one) { fired[one.prop_id] = true; });
      var part = parts[name];
      if (!part || (busy === undefined || busy === null) && !shown && !fired['news.data']) {
        part = parts[name] = blank(start);     // the part was just put on the page; its first read is under way
      }
      if (shown) part.shown = shown;
      if (fired['news.data'] && news) add(part, news);
      if (fired[name + '-busy.data'] && busy === true && !part.busy) {
        part.busy = true;                      // a read that a filter began
        part.since = part.began = Date.now();
      }
      if (fired[name + '-busy.data'] && busy === false) {
        // The answer is put on the page after this; only then may the next read begin, or it would replace the answer.
        setTimeout(function () { if (parts[name] === part) ended(name, part, pause); }, 50);
      } else consider(name, part, pause);
      return window.dash_clientside.no_update;
    };
  }

  // Whether a read of what is on the page takes long. Called every second: a read that was lost begins anew.
  function slow() {
    var most = 0;
    Object.keys(parts).forEach(function (name) {
      var part = parts[name], now = Date.now();
      if (!document.getElementById(name)) { delete parts[name]; return; }
      if (!part.busy) {
        if (part.shown && part.shown.version === 0 && now - part.began > RETRY) begin(name, part);
        return;
      }
      most = Math.max(most, now - part.since);
      if (now - part.since > LOST) begin(name, part);
    });
    return most > SLOW;
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.plimsoll = Object.assign({}, window.dash_clientside.plimsoll, {
    schedule: schedule(ask, 0),
    schedule_slowly: schedule(ask, CALM),
    schedule_grid: schedule(regrid, 1000),
  });
  window.plimsollReads = { slow: slow };
})();
