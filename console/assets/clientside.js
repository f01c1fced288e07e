// Callbacks that run in the browser. Registered by name, so that the page needs no inline script.
(function () {
  var LIVE = 6, LOST = 20;              // seconds without a beat: Live, Reconnecting, Silent
  var heard = null, heardAt = null, build = null, asking = false, opened = Date.now();

  function chip(word, tone, shape) {
    var icon = { namespace: 'dash_html_components', type: 'Span',
      props: { className: 'icon icon-' + shape, 'aria-hidden': 'true' } };
    return [[icon, { namespace: 'dash_html_components', type: 'Span', props: { children: word } }], 'chip ' + tone];
  }

  function silence() {
    if (heardAt === null) return (Date.now() - opened) / 1000;
    return Math.max((Date.now() - heardAt) / 1000, heard.silent || 0);
  }

  // The socket has given up, or this browser has none: ask over plain HTTP.
  function ask(reload) {
    if (asking) return;
    asking = true;
    fetch('/beat', { credentials: 'same-origin', redirect: 'error' }).then(function (answer) {
      if (answer.status === 401) { window.location.assign('/sign-in'); return null; }
      return answer.ok ? answer.json() : null;
    }).then(function (beat) {
      if (!beat || beat.silent > 0) return;
      if (reload) { window.location.reload(); return; }
      var moved = !heard || heard.head !== beat.head;
      window.dash_clientside.set_props('beat', { data: beat });
      if (moved) window.dash_clientside.set_props('news', { data: { head: beat.head, moved: null } });
    }).catch(function () {}).finally(function () { asking = false; });
  }

  var none = function () { return window.dash_clientside.no_update; };

  // Filters are in the address; writing it through the router would draw the page again.
  function remember(path, names) {
    return function () {
      var before = arguments[names.length] || {}, chosen = {};
      for (var index = 0; index < names.length; index += 1) {
        if (arguments[index]) chosen[names[index]] = arguments[index];
      }
      var same = names.every(function (name) { return (chosen[name] || '') === (before[name] || ''); });
      if (same) return none();                 // so a page number in the address stays
      var query = new URLSearchParams(chosen).toString();
      window.history.replaceState({}, '', path + (query ? '?' + query : ''));
      return chosen;
    };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.plimsoll = Object.assign({}, window.dash_clientside.plimsoll, {
      beat: function (beat) {
        if (beat && beat.signed_out) { window.location.assign('/sign-in?next=' +
          encodeURIComponent(window.location.pathname + window.location.search)); }
        if (beat && (heard === null || beat.at !== heard.at)) {
          heard = beat; heardAt = Date.now();
          if (build === null) build = beat.build;
          else if (beat.build && beat.build !== build) window.location.reload();
        }
        var quiet = silence();
        var made;
        var slow = window.plimsollReads && window.plimsollReads.slow();
        if (quiet < LIVE && heard && slow) made = chip('Slow', 'warn', 'clock');
        else if (quiet < LIVE) made = heard ? chip('Live', 'good', 'tick') : chip('Connecting', 'quiet', 'dot');
        else if (quiet < LOST) made = chip('Reconnecting', 'warn', 'clock');
        else made = chip('Silent ' + 5 * Math.round(quiet / 5) + '\u00a0s', 'bad', 'octagon');
        if (quiet >= LOST && heard && Math.round(quiet) % 5 === 0) ask((Date.now() - heardAt) / 1000 >= LOST);
        document.documentElement.classList.toggle('is-stale', quiet >= LOST);
        return [made[0], made[1], quiet < LOST];
      },
      poll: function () {
        if (typeof window.SharedWorker === 'undefined' || heard === null) ask(false);
        return none();
      },
      may_send: function (reason, state, busy, chipClass) {
        var least = state ? state.least : 8, have = (reason || '').trim().length;
        var stale = (chipClass || '').indexOf('bad') >= 0;
        var note = stale ? 'Paused: the ledger has stopped answering.'
          : busy ? 'Asking the ledger…'
          : have < least ? 'At least ' + least + ' characters; ' + (least - have) + ' to go.' : '';
        return [stale || Boolean(busy) || have < least, note];
      },
      filter_audit: remember('/audit', ['kind', 'model', 'release', 'actor']),
      filter_releases: remember('/releases', ['model', 'state', 'search']),
      filter_drift: remember('/drift', ['model']),
      filter_fairness: remember('/fairness', ['model']),
      regrid: function () {
        try { window.dash_ag_grid.getApi('audit-grid').purgeInfiniteCache(); }
        catch (e) { /* the grid is not up yet; it asks for its first block by itself */ }
        return none();
      },
      close_dialog: function (n) { return n ? false : none(); },
  });

  var grid = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  grid.gridTheme = function (quartz) {
    return quartz.withParams({
      backgroundColor: 'var(--panel)', foregroundColor: 'var(--ink)', textColor: 'var(--ink)',
      headerBackgroundColor: 'var(--panel)', headerTextColor: 'var(--ink2)', borderColor: 'var(--line)',
      rowHoverColor: 'var(--hover)', selectedRowBackgroundColor: 'var(--info-soft)', accentColor: 'var(--info)',
      oddRowBackgroundColor: 'var(--panel)', fontFamily: 'inherit', fontSize: 13, headerFontSize: 13,
      spacing: 6, wrapperBorder: false, borderRadius: 0, wrapperBorderRadius: 0, browserColorScheme: 'inherit',
    });
  };
})();
